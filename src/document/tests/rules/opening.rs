//! Rows about what opens.

use crate::common::*;
use document::*;

#[test]
fn different_people_are_counted_in_one_function_and_a_threshold_of_0_is_refused() {
    let it = company();
    let mut judge = it.judge();
    let short = refusal(judge.judge(&signed(it.grant(), &[&it.alice, &it.alice_spare]), noon()));
    assert!(matches!(short, Refusal::Approvals { counted: 1, needed: 2, .. }), "{short}");
    let terms = terms(judge.judge(&signed(it.grant(), &[&it.alice, &it.bob]), noon()));
    assert_eq!(terms.approvers.len(), 2);
}
