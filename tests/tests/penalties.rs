//! Refusals lock nobody out: sshd's penalties for addresses (OpenSSH 9.8), and which addresses are spared.

use std::time::Duration;

use instance_tests::{House, Release, eventually, on_each_release};

const SOON: Duration = Duration::from_secs(30);
/// A bastion, or an office's NAT.
const BASTION: &str = "127.9.9.9";
const ELSEWHERE: &str = "127.9.9.10";
/// sshd's own configuration spares somebody already.
const THEIRS: &str = "/etc/ssh/sshd_config.d/50-penalties.conf";

fn thirty_refusals(house: &House, address: &str) {
    for _ in 0..30 {
        assert!(!house.ssh("ubuntu").key(&house.frank).from(address).login());
    }
}

fn problems(house: &House) -> String {
    house.ctl_json("status")["problems"].to_string()
}

on_each_release! {
    fn after_thirty_refusals_break_glass_and_a_granted_person_are_in_at_once_where_the_address_is_spared(release) {
        let house = House::enforcing(release);
        let has_penalties = release == Release::Trixie;
        let frank = |address: &str| house.ssh("ubuntu").key(&house.frank).from(address).login();
        let breakglass = |address: &str| house.ssh("breakglass").key(&house.breakglass).from(address).login();
        let spared = |list: &str| house.configure(&house.config("enforce", &format!("[sshd]\npenalty_exempt = [{list}]\n")));

        // Without, all who come from there wait, and status says who and how long.
        let ways = house.ctl_json("ways-in")["warnings"].to_string();
        assert_eq!(ways.contains("sshd.penalty_exempt = "), has_penalties, "{ways}");
        thirty_refusals(&house, BASTION);
        house.allow("frank --account ubuntu --for 1h");
        assert_eq!((frank(BASTION), breakglass(BASTION)), (!has_penalties, !has_penalties));
        assert!(frank(ELSEWHERE) && breakglass(ELSEWHERE));
        if has_penalties {
            let mut said = String::new();
            eventually("status says who waits", SOON, || {
                said = problems(&house);
                said.contains("sshd shuts out 127.9.9.9")
            });
            assert!(said.contains("connections since") && said.contains(" at most"), "{said}");
            assert!(said.contains("sshd.penalty_exempt = [\\\"127.9.9.9\\\"]") && !said.contains(ELSEWHERE), "{said}");
            let tried = house.ctl("break-glass test");
            assert!(tried.status == 0 && tried.stdout.contains("sshd shuts out 127.9.9.9"), "{tried}");
        } else {
            assert!(!problems(&house).contains("shuts out"), "{}", problems(&house));
        }

        // The line that it names ends it at once, and what sshd's own configuration spares stays spared.
        if has_penalties {
            house.write(THEIRS, "PerSourcePenaltyExemptList 192.0.2.*\n");
        }
        spared(&format!("\"{BASTION}\", \"10.0.0.0/8\""));
        let drop_in = || house.sh("cat /etc/ssh/sshd_config.d/00-lockdownd.conf");
        let line = format!("PerSourcePenaltyExemptList 192.0.2.*,10.0.0.0/8,{BASTION}/32\n");
        eventually("the drop-in says so", SOON, || drop_in().contains(&line) == has_penalties);
        eventually("they get in", SOON, || breakglass(BASTION));
        assert!(frank(BASTION));
        assert!(!problems(&house).contains("shuts out"), "{}", problems(&house));
        let ways = house.ctl_json("ways-in")["warnings"].to_string();
        assert!(!ways.contains("penalty_exempt"), "{ways}");

        // With it, thirty more lock nobody out: who was refused and is then granted gets in at once.
        house.ctl("revoke frank --reason over").expect_ok();
        thirty_refusals(&house, BASTION);
        house.allow("frank --account ubuntu --for 1h");
        assert!(frank(BASTION) && breakglass(BASTION));
        assert!(!problems(&house).contains("shuts out"), "{}", problems(&house));
        house.ctl("break-glass test").expect_ok();

        // Taken out again, only what sshd's own configuration says is left; observe has no drop-in at all.
        spared("");
        eventually("the drop-in says nothing of it", SOON, || !drop_in().contains("PerSourcePenalty"));
        house.ctl("verify").expect_ok();
    }
}
