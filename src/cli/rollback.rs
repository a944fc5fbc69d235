//! `rollback`: turn an open transaction back, or undo a committed one.

use clap::Args;

use super::apply::tx;
use super::differences::{self, Sense};
use super::exit::Asked;
use super::ui::Paint;
use super::{Answer, Cx, exit, json, words};
use crate::error::{Error, Fault, Result};
use crate::name::TxId;
use crate::ops::{self, RollbackOptions, RollbackPreview, Through, Undoing};
use crate::tx::Extent;

/// Turn an open transaction back, or undo a committed one
///
/// An open transaction is turned back: everything is as it was when it began. A committed one is undone by a new
/// transaction, which first captures the present, so that it can be undone as well; what was written since is then
/// only in that capture. It asks first on a terminal, and needs `--yes` where nobody can be asked. Without TX it is
/// the one open transaction or, with none open, the latest committed upgrade or snapshot that is not yet undone.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[
        exit::DONE, exit::FAILED, exit::USAGE, exit::ROLLED_BACK, exit::UNSOUND, exit::STUCK, exit::OVERLAP,
        exit::LOCKED, exit::DAMAGE, exit::INTERRUPTED, exit::TERMINATED,
    ],
    &["txupgrade rollback --dry-run", "txupgrade rollback notes-3 --yes"],
))]
pub(super) struct Rollback {
    /// The transaction, such as notes-3
    #[arg(value_parser = tx)]
    tx: Option<TxId>,
    /// Only list what would change, and what was written since and would be lost
    #[arg(long)]
    dry_run: bool,
    /// Undo a committed transaction without asking
    #[arg(long, short)]
    yes: bool,
    /// Restore what can be restored although some of what is needed is damaged
    #[arg(long)]
    partial: bool,
    /// Undo later committed transactions that touch the same resources, too
    #[arg(long)]
    through: bool,
}

impl Rollback {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let through = if self.through { Through::Later } else { Through::OnlyThis };
        if self.dry_run {
            let preview = ops::rollback_preview(&cx.looking(), self.tx.as_ref(), through)?;
            ops::prove_rollback(&cx.looking(), &preview)?;
            return Ok(dry_run(&preview, cx.ui.out, cx.ui.err));
        }
        // Asked once: what is open and what was committed last may change while somebody is asked.
        let (tx, turns_back) = ops::rollback_of(&cx.looking(), self.tx.as_ref())?;
        if !turns_back && !self.yes && !self.agreed(cx, &tx, through)? {
            return Err(Error::new("nothing was changed: you did not say yes"));
        }
        let extent = if self.partial { Extent::Partial } else { Extent::Whole };
        let undoing = if turns_back { Undoing::NotAsked } else { Undoing::Agreed };
        let standing = ops::rollback(&cx.acting(), &tx, RollbackOptions { extent, through, undoing })?;
        let asked = if turns_back { Asked::TurnBack } else { Asked::Commit };
        Ok(cx.stands(asked, &standing, None))
    }

    /// Asks whether a committed transaction is to be undone, after showing what that changes.
    fn agreed(&self, cx: &Cx, tx: &TxId, through: Through) -> Result<bool> {
        let preview = ops::rollback_preview(&cx.looking(), Some(tx), through)?;
        if !preview.later.is_empty() && through == Through::OnlyThis {
            // It will be refused, with better reasons than a question could give.
            return Ok(true);
        }
        if !cx.ui.can_ask() {
            let named = self.tx.as_ref().map(|tx| format!(" {tx}")).unwrap_or_default();
            let through = if self.through { " --through" } else { "" };
            return Err(Error::new(format!("{} is committed, and nobody can be asked whether to undo it", preview.tx))
                .hint(format!("`txupgrade rollback{named}{through} --dry-run` shows what that changes"))
                .hint(format!("`txupgrade rollback{named}{through} --yes` does it"))
                .fault(Fault::Usage));
        }
        cx.ui.say(&render(&preview, cx.ui.err));
        Ok(cx.ui.ask(&format!("Undo {}?", names(&preview.of))))
    }
}

pub(super) fn dry_run(preview: &RollbackPreview, out: Paint, err: Paint) -> Answer {
    let mut talk = String::new();
    if !preview.later.is_empty() {
        talk.push_str(&format!(
            "{} later transactions touch the same: {}; undoing needs {}\n",
            err.warn("warning:"),
            names(&preview.later),
            err.hint("--through")
        ));
    }
    Answer { json: json::preview(preview, exit::DONE), data: render(preview, out), talk, exit: exit::DONE }
}

fn render(preview: &RollbackPreview, paint: Paint) -> String {
    let head = if preview.open {
        format!("turning {} back would change:\n", preview.tx)
    } else {
        format!("undoing {} would change, and what was written since would be lost:\n", names(&preview.of))
    };
    let mut text = paint.bold(head.trim_end());
    text.push('\n');
    let mut nothing = true;
    for (resource, changes) in &preview.changes {
        if !changes.is_empty() {
            nothing = false;
            text.push_str(&differences::render(resource, changes, Sense::ToRestore, paint));
        }
    }
    if nothing {
        text.push_str("  nothing: everything is as it was captured\n");
    }
    text
}

fn names(transactions: &[TxId]) -> String {
    let names: Vec<String> = transactions.iter().map(ToString::to_string).collect();
    words::list(&names)
}
