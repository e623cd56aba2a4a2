//! `quarantine`: what was removed, why, and putting it back.

use control::{
    Answer, FormerlyExempt, QuarantineAnswer, QuarantineDetail, Quarantined, Request, RestoreAnswer, RetiredAnswer,
};
use jiff::Timestamp;

use super::{Context, left_off};
use crate::{
    ask::Failure,
    cli::{self, QuarantineCommand},
    moment::{absolute, both, relative},
    output::{Done, bullets, plain, show},
    paint::Paint,
    table::Table,
};

/// Does one of the four.
pub(crate) fn run(args: cli::Quarantine, context: &Context<'_>) -> Result<Done, Failure> {
    let request = match args.command {
        QuarantineCommand::List => Request::QuarantineList,
        QuarantineCommand::Show { id } => Request::QuarantineShow(Quarantined { id }),
        QuarantineCommand::Restore { id } => Request::QuarantineRestore(Quarantined { id }),
        QuarantineCommand::Now { account } => Request::QuarantineNow(FormerlyExempt { account }),
    };
    match (&request, context.ask(&request)?) {
        (Request::QuarantineList, Answer::Quarantine(answer)) => {
            Ok(show(context.json, &answer, |answer| list(answer, context.now, context.paint)))
        }
        (Request::QuarantineShow(_), Answer::QuarantineItem(item)) => {
            Ok(show(context.json, &item, |item| detail(item, context.now)))
        }
        (Request::QuarantineNow(_), Answer::Retired(answer)) => {
            Ok(show(context.json, &answer, |answer| retired(answer, context.paint)))
        }
        (Request::QuarantineRestore(_), Answer::Restore(answer)) => {
            Ok(show(context.json, &answer, |answer| restored(answer, context.paint)))
        }
        _ => Err(Failure::mismatch()),
    }
}

fn list(answer: &QuarantineAnswer, now: Timestamp, paint: Paint) -> String {
    if answer.items.is_empty() {
        return "nothing is in quarantine\n".to_owned();
    }
    let mut table = Table::new(&["ID", "REMOVED", "AT", "ACCOUNT", "PATH", "KEYS", "BYTES", "WHY"])
        .spare(&["AT", "BYTES", "KEYS", "WHY"])
        .cut(&["ACCOUNT", "PATH"]);
    for item in &answer.items {
        table.row([
            item.id.clone(),
            relative(item.removed_at, now),
            absolute(item.removed_at),
            item.account.to_string(),
            item.path.clone(),
            item.fingerprints.len().to_string(),
            if item.restorable { item.size.to_string() } else { format!("{} (only its hash is kept)", item.size) },
            item.why.clone(),
        ]);
    }
    table.render_in(paint) + &left_off(answer.left_off)
}

fn detail(detail: &QuarantineDetail, now: Timestamp) -> String {
    let item = &detail.item;
    let mut lines = vec![
        ("id", item.id.clone()),
        ("account", item.account.to_string()),
        ("path", item.path.clone()),
        ("removed", both(item.removed_at, now)),
        ("why", item.why.clone()),
        ("was", format!("{}, {} bytes, mode {:04o}, uid {}", detail.file_type, item.size, detail.mode, detail.uid)),
    ];
    lines.extend(detail.link_target.clone().map(|target| ("target", target)));
    lines.extend(detail.sha256.clone().map(|hash| ("sha256", hash)));
    lines.extend(item.fingerprints.iter().map(|fingerprint| ("key", fingerprint.to_string())));
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<8} {}\n", plain(value))).collect();
    if !item.restorable {
        text.push_str("Its content is not kept, only its hash.\n");
    } else if !detail.lines.is_empty() {
        text.push_str("content\n");
        detail.lines.iter().for_each(|line| text.push_str(&format!("  {}\n", plain(line))));
    }
    if detail.cut {
        text.push_str("  and more that did not fit the answer\n");
    }
    text
}

fn retired(answer: &RetiredAnswer, paint: Paint) -> String {
    format!("the keys of {} are kept no longer\n{}", answer.account, bullets(&answer.notes, paint))
}

fn restored(answer: &RestoreAnswer, paint: Paint) -> String {
    let place = plain(&answer.path);
    format!(
        "put {} back as {place}, written by {} itself\n{}",
        answer.item.id,
        answer.item.account,
        bullets(&answer.notes, paint)
    )
}

#[cfg(test)]
mod tests {
    use control::{Exit, QuarantineItem};

    use super::*;
    use crate::commands::testing::*;

    fn item() -> QuarantineItem {
        QuarantineItem {
            id: "q-1".to_owned(),
            account: "ubuntu".parse().unwrap(),
            path: "/home/ubuntu/.ssh/authorized_keys".to_owned(),
            removed_at: at("2026-11-23T17:00:00Z"),
            size: 81,
            why: "no grant backs its keys".to_owned(),
            restorable: true,
            fingerprints: Vec::new(),
        }
    }

    fn typed(command: QuarantineCommand) -> cli::Quarantine {
        cli::Quarantine { command }
    }

    #[test]
    fn the_list_says_what_stood_where_and_why_it_went() {
        let items = vec![item(), QuarantineItem { restorable: false, id: "q-2".to_owned(), ..item() }];
        let answer = Answer::Quarantine(QuarantineAnswer { items, left_off: 0 });
        let (_, done) = against(vec![Ok(answer)], |context| run(typed(QuarantineCommand::List), context));
        assert_eq!(
            done.unwrap().text,
            "\
ID   REMOVED  AT                       ACCOUNT  PATH                               KEYS  BYTES                       WHY
q-1  1 h ago  2026-11-23 17:00:00 UTC  ubuntu   /home/ubuntu/.ssh/authorized_keys  0     81                          no grant backs its keys
q-2  1 h ago  2026-11-23 17:00:00 UTC  ubuntu   /home/ubuntu/.ssh/authorized_keys  0     81 (only its hash is kept)  no grant backs its keys
"
        );
    }

    #[test]
    fn one_item_shows_its_content_without_acting_on_the_terminal() {
        let shown = QuarantineDetail {
            item: item(),
            file_type: "file".to_owned(),
            link_target: None,
            uid: 1000,
            mode: 0o600,
            sha256: Some("ab".repeat(32)),
            lines: vec!["ssh-ed25519 AAAA\x1b[2J".to_owned()],
            cut: true,
        };
        assert_eq!(
            detail(&shown, at(NOW)),
            format!(
                "id       q-1\naccount  ubuntu\npath     /home/ubuntu/.ssh/authorized_keys\n\
                 removed  2026-11-23 17:00:00 UTC (1 h ago)\nwhy      no grant backs its keys\n\
                 was      file, 81 bytes, mode 0600, uid 1000\nsha256   {}\ncontent\n  \
                 ssh-ed25519 AAAA\\x1b[2J\n  and more that did not fit the answer\n",
                "ab".repeat(32)
            )
        );
    }

    #[test]
    fn an_id_with_a_path_in_it_never_reaches_the_daemon() {
        let id = "../grants".to_owned();
        let (asked, result) = against(Vec::new(), |context| run(typed(QuarantineCommand::Show { id }), context));
        assert!(asked.is_empty());
        assert_eq!(result.unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_restore_says_where_and_what_follows() {
        let notes = vec!["the next sweep removes it again".to_owned()];
        let answer = Answer::Restore(RestoreAnswer { item: item(), path: item().path, notes });
        let id = "q-1".to_owned();
        let (_, done) = against(vec![Ok(answer)], |context| run(typed(QuarantineCommand::Restore { id }), context));
        assert_eq!(
            done.unwrap().text,
            "put q-1 back as /home/ubuntu/.ssh/authorized_keys, written by ubuntu itself\n  - the next sweep removes it again\n"
        );
    }
}
