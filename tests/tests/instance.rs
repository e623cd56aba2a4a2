//! The harness itself: what the other tests lean on holds.

use std::time::Duration;

use instance_tests::{Instance, on_each_release, step};

on_each_release! {
    fn a_bare_instance_lets_a_key_and_a_password_in_and_what_ends_is_seen_to_end(release) {
        let instance = Instance::boot_bare(release);
        instance.useradd("frank");
        let key = instance.keygen("frank");
        assert!(!instance.ssh("frank").key(&key).login(), "nobody put the key there yet");
        instance.authorize("frank", &key);
        assert_eq!(instance.ssh("frank").key(&key).run("id -un").expect_ok(), "frank");
        assert_eq!(instance.sh("hostname"), "web1");

        step("a client that stays is seen to end");
        let mut client = instance.ssh("frank").key(&key).stay();
        assert!(client.is_alive());
        instance.sh("loginctl terminate-user frank");
        client.ended_within(Duration::from_secs(10));

        step("a password is typed");
        instance.sh("echo frank:s3cret | chpasswd");
        assert!(instance.ssh("frank").password("s3cret").login());
        assert!(!instance.ssh("frank").password("wrong").login());

        step("what runs inside belongs to no login");
        assert_eq!(instance.sh("cat /proc/self/loginuid"), "4294967295");
        assert_eq!(instance.sh("cat /proc/1/loginuid"), "4294967295");
        assert_eq!(instance.sh("sed -n 's/^0:://p' /proc/self/cgroup"), "/harness.scope");
    }

    fn the_disk_outlives_a_power_cut_and_a_reboot_and_run_does_not(release) {
        let mut instance = Instance::boot_bare(release);
        instance.write("/var/lib/kept", "kept");
        instance.write("/run/lost", "lost");
        let boot = instance.sh("cat /proc/sys/kernel/random/boot_id");
        let machine = instance.sh("cat /etc/machine-id");
        instance.power_cut();
        assert_eq!(instance.sh("cat /var/lib/kept"), "kept");
        assert!(!instance.exists("/run/lost"));
        assert_ne!(instance.sh("cat /proc/sys/kernel/random/boot_id"), boot);
        instance.reboot();
        assert_eq!(instance.sh("cat /var/lib/kept"), "kept");
        assert_eq!(instance.sh("cat /etc/machine-id"), machine);
    }
}
