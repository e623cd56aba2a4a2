//! What an operator's day needs: reading at a terminal, times in one's own zone, and the like.

use instance_tests::{House, on_each_release};

on_each_release! {
    fn records_have_a_pager_at_a_terminal_and_times_a_zone(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        house.sh("printf '#!/bin/sh\\necho by less; exec cat\\n' >/usr/local/bin/less; chmod +x /usr/local/bin/less");
        let at_a_terminal = |env: &str, args: &str| {
            house.sh(&format!("{env} COLUMNS=80 script -qec 'stty cols 80; lockdownctl {args}' /dev/null"))
        };
        let paged = at_a_terminal("", "records");
        assert!(paged.contains("by less") && paged.contains("grant.created"), "{paged}");
        for (env, args) in [("", "records --no-pager"), ("PAGER=cat", "records"), ("", "--json records"), ("", "grants")] {
            let said = at_a_terminal(env, args);
            assert!(!said.contains("by less") && !said.is_empty(), "{env} {args}: {said}");
        }
        let own = "PAGER='echo by own; cat'";
        assert!(at_a_terminal(own, "records").contains("by own"));
        let elevated = at_a_terminal(&format!("SUDO_UID=1000 {own}"), "records");
        assert!(elevated.contains("by less") && !elevated.contains("by own"), "with root's rights less alone: {elevated}");
        assert!(!house.ctl("records").stdout.contains("by less"), "what is piped is the bare text");

        let local = house.sh("TZ=XYZ-3 lockdownctl --time local grants");
        assert!(local.contains(" XYZ ") && !local.contains("UTC"), "{local}");
        assert!(house.ctl("grants").stdout.contains(" UTC "));
        let odd = house.run("TZ=Nowhere lockdownctl --time local grants");
        assert!(odd.status == 1 && odd.stderr.contains("is no time zone"), "{odd}");
    }
}
