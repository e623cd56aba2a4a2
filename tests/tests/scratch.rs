use instance_tests::{Instance, on_each_release};
on_each_release! {
    fn scratch(release) {
        let instance = Instance::boot_bare(release);
        println!("{}", instance.install(&instance_tests::built_package()));
        let script = std::fs::read_to_string("/tmp/scratch.sh").unwrap();
        println!("{}", instance.run(&script));
    }
}
