//! From the text of a plan to a [`Plan`]: everything that is common to all kinds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::language::{Language, Moment};
use super::tree::{self, Data, Table};
use super::{
    CheckAt, CheckSpec, CommandDefaults, Entry, Expect, Fields, List, Notice, Plan, Policy, Prove, Reading, Report,
    Span, StepAt, Template, VersionEntry, VersionSpec, vars,
};
use crate::error::{Error, Fault, Result};
use crate::name::Name;
use crate::tx::OnFailure;

/// The language that this program reads.
const FORMAT: i64 = 1;
/// More syntax errors than these are echoes of the first.
const SYNTAX_ERRORS: usize = 10;

impl Plan {
    /// Parses the text of a plan. Syntax errors and a wrong `format` end it at once; everything else is collected in `report`,
    /// and the caller turns that into an error after the kinds have read their keys ([`Plan::verdict`]). `set` are the
    /// `--set key=value`.
    pub fn parse(text: &str, path: &Path, set: &BTreeMap<String, String>) -> Result<Plan> {
        let shown = path.display().to_string();
        let report = Report::default();
        let (root, errors) = tree::parse(text);
        for (span, message) in errors.iter().take(SYNTAX_ERRORS) {
            let (statement, hint) = tree::explain(text, span, message);
            report.mistake(span, statement, hint);
        }
        if !report.is_empty() {
            return Err(report.into_error(&shown, text));
        }
        refuse_newer(&root, &shown, text)?;

        let vars_table = table_of(&root, "vars").cloned().unwrap_or_default();
        let language = Rc::new(Language {
            text: text.to_owned(),
            report: report.clone(),
            vars: vars::natures(&vars_table),
            has_version: root.get("version").is_some(),
            has_target: Cell::new(true),
            defaults: RefCell::default(),
            references: RefCell::default(),
            commands: RefCell::default(),
        });
        let mut fields = Fields::new(&language, root, Moment::Transaction);
        let head = 0..0;
        read_format(&mut fields, &head);
        let name = read_name(&mut fields, "the plan", &head);
        let summary = fields.text("summary").unwrap_or_default();
        let command = fields.table("command").map(CommandDefaults::read).unwrap_or_default();
        language.defaults.replace(command.clone());
        let vars = fields.table("vars").map(|f| vars::read(f, set)).unwrap_or_default();
        vars::check_set(&language, set);
        let version = fields.table("version").map(|f| read_version(f, &vars));
        language.has_target.set(version.as_ref().is_none_or(|v| v.spec.target.is_some() || v.to_is_wrong()));
        let mut entries = |list| read_list(&mut fields, list);
        let checks = entries(List::Check);
        let quiesces = entries(List::Quiesce);
        let resources = entries(List::Resource);
        let steps = entries(List::Step);
        let notices = tables(&mut fields, List::Notice).into_iter().map(read_notice).collect();
        let policy = fields.table("policy").map(read_policy).unwrap_or_default();
        fields.finish();
        let plan = Plan {
            text: text.to_owned(),
            path: path.to_owned(),
            report,
            name,
            summary,
            vars,
            command,
            version,
            checks,
            notices,
            quiesces,
            resources,
            steps,
            policy,
            language,
        };
        plan.check_names();
        plan.check_order();
        plan.check_references();
        Ok(plan)
    }

    /// All mistakes found until now as one error. To be asked when the kinds have read their keys.
    pub fn verdict(&self) -> Result<()> {
        self.check_references();
        match self.report.is_empty() {
            true => Ok(()),
            false => Err(self.report.clone().into_error(&self.path.display().to_string(), &self.text)),
        }
    }

    /// Every command of the plan, whoever runs it. Complete when the kinds have read their keys.
    pub fn commands(&self) -> Vec<super::Command> {
        self.language.commands.borrow().clone()
    }

    /// Reports that `kind` is none of `known`, at `span`. Without a kind nothing is said: that is reported already.
    pub fn refuse_kind(&self, list: List, kind: &str, span: &Span, known: &[&str]) {
        if !kind.is_empty() {
            let hint = super::report::hint_among(kind, known.iter().copied());
            self.report.mistake(span, format!("there is no {list} of kind `{kind}`"), hint);
        }
    }
}

impl VersionEntry {
    /// Its `to` is written but could not be read, which is reported.
    fn to_is_wrong(&self) -> bool {
        self.spec.to.is_none() && self.body.peek("to").is_some()
    }
}

fn table_of<'a>(root: &'a Table, key: &str) -> Option<&'a Table> {
    match root.get(key).map(|item| &item.node.data) {
        Some(Data::Table(table)) => Some(table),
        _ => None,
    }
}

/// A plan in a later language would be told to be full of mistakes.
fn refuse_newer(root: &Table, path: &str, text: &str) -> Result<()> {
    let Some(item) = root.get("format") else { return Ok(()) };
    let Data::Integer(number @ 2..) = item.node.data else { return Ok(()) };
    let report = Report::default();
    report.mistake(&item.node.span, format!("format {number} is newer than format {FORMAT}"), None);
    let version = env!("CARGO_PKG_VERSION");
    let block = report.into_error(path, text).causes.concat();
    Err(Error::new(format!(
        "the plan `{path}` is written in format {number}, and this is txupgrade {version}, which reads format {FORMAT}"
    ))
    .because(block)
    .hint("run it with a newer txupgrade")
    .fault(Fault::Usage))
}

fn read_format(fields: &mut Fields, head: &Span) {
    let hint = Some(format!("this txupgrade reads `format = {FORMAT}`"));
    match fields.node("format") {
        None => fields.report().mistake(head, "the key `format` is missing", hint),
        Some(node) if matches!(node.data, Data::Integer(FORMAT)) => {}
        Some(node) => fields.report().mistake(&node.span, "this is not a format of plans", hint),
    }
}

/// The name that stands in for one that is missing or wrong; the plan is refused anyway.
fn no_name() -> Name {
    "unnamed".parse().expect("it has letters only")
}

fn read_name(fields: &mut Fields, whose: &str, head: &Span) -> Name {
    if fields.node("name").is_none() {
        fields.report().mistake(head, format!("{whose} has no `name`"), Some("write `name = \"…\"`".into()));
        return no_name();
    }
    let Some((text, span)) = fields.spanned_text("name") else { return no_name() };
    text.parse().unwrap_or_else(|e: Error| {
        fields.report().mistake(&span, e.statement, e.hints.into_iter().next());
        no_name()
    })
}

fn read_version(mut fields: Fields, vars: &BTreeMap<String, super::Var>) -> VersionEntry {
    fields.set_moment(Moment::Always);
    let runs = fields.peek("run").is_some() || fields.peek("shell").is_some();
    let kind_span = fields.span_of("kind");
    let kind = match fields.text("kind") {
        Some(kind) => kind,
        None if runs => "command".to_owned(),
        None => {
            let hint = "`run = [\"program\", \"--version\"]`, or the `kind` of a check that reads text, and its keys";
            if fields.peek("kind").is_none() {
                fields.report().mistake(
                    &fields.span(),
                    "`[version]` does not say how the version is read",
                    Some(hint.into()),
                );
            }
            String::new()
        }
    };
    let reading = Reading::read(&mut fields);
    let scheme = reading.scheme;
    let mut range = |key: &str| {
        let range = fields.range(key, scheme)?;
        let scope = vars::literal(vars);
        // A variable without a value now is reported already, or a list.
        if range.variables().any(|name| !scope.values.contains_key(name)) {
            return None;
        }
        let filled = range.fill(&scope).map_err(|e| e.to_string());
        fields.accept(&fields.span_of(key), filled, None)
    };
    let from = range("from");
    let to = range("to");
    let target = to.as_ref().and_then(super::Range::only);
    let latest = fields.command("latest");
    let spec = VersionSpec { reading, scheme, from, to, target, latest };
    VersionEntry { kind, kind_span, body: fields, spec }
}

/// The tables of a list.
fn tables(fields: &mut Fields, list: List) -> Vec<Fields> {
    let Some(node) = fields.node(list.word()) else { return Vec::new() };
    let hint = || Some(format!("each begins with a line `[[{list}]]`"));
    let Data::List(nodes) = &node.data else {
        fields.mismatch(list.word(), &node, "a list of tables", hint());
        return Vec::new();
    };
    let mut out = Vec::new();
    for node in nodes {
        match &node.data {
            Data::Table(table) => {
                let table = Table { span: node.span.clone(), ..table.clone() };
                out.push(Fields::new(fields.language(), table, Moment::Transaction));
            }
            _ => fields.mismatch(list.word(), node, "a table", hint()),
        }
    }
    out
}

fn read_list(fields: &mut Fields, list: List) -> Vec<Entry> {
    tables(fields, list).into_iter().map(|fields| read_entry(fields, list)).collect()
}

fn read_entry(mut fields: Fields, list: List) -> Entry {
    let span = fields.span();
    let name = read_name(&mut fields, &format!("this {list}"), &span);
    let kind_span = fields.span_of("kind");
    if fields.node("kind").is_none() {
        fields.report().mistake(&span, format!("this {list} has no `kind`"), None);
    }
    let kind = fields.text("kind").unwrap_or_default();
    let each = read_each(&mut fields);
    let under = if list == List::Quiesce { None } else { read_under(&mut fields) };
    let when = match list {
        List::Step | List::Quiesce => fields.references(List::Check, "when"),
        _ => Vec::new(),
    };
    let check = if list == List::Check { read_check(&mut fields) } else { CheckSpec::default() };
    let step_at = if list == List::Step { read_step_at(&mut fields) } else { StepAt::default() };
    let expect = match list {
        List::Step | List::Quiesce => read_expect(&mut fields),
        _ => None,
    };
    let carry = if list == List::Step { read_carry(&mut fields, step_at) } else { Vec::new() };
    Entry { name, kind, kind_span, span, each, under, when, check, step_at, expect, carry, body: fields }
}

fn read_each(fields: &mut Fields) -> Option<String> {
    let (name, span) = fields.spanned_text("each")?;
    // Whatever is wrong with it, `${each}` is meant to be known.
    fields.set_moment(Moment::Each);
    vars::check_list_name(fields.language(), &name, &span).then_some(name)
}

fn read_under(fields: &mut Fields) -> Option<Option<Name>> {
    let (text, span) = fields.spanned_text("under")?;
    if text.is_empty() {
        return Some(None);
    }
    match text.parse() {
        Ok(name) => Some(Some(name)),
        Err(e) => {
            fields.report().mistake(&span, e.statement, e.hints.into_iter().next());
            None
        }
    }
}

fn read_check(fields: &mut Fields) -> CheckSpec {
    let at = match fields.word("at", &["before", "after", "both", "named"]) {
        Some("before") => CheckAt::Before,
        Some("after") => CheckAt::After,
        Some("named") => CheckAt::Named,
        _ => CheckAt::Both,
    };
    CheckSpec {
        at,
        warn: fields.flag("warn", false),
        within: fields.duration("within"),
        steady: fields.duration("steady"),
    }
}

fn read_step_at(fields: &mut Fields) -> StepAt {
    let at = match fields.word("at", &["prepare", "apply", "finish"]) {
        Some("prepare") => StepAt::Prepare,
        Some("finish") => StepAt::Finish,
        _ => StepAt::Apply,
    };
    if at != StepAt::Apply && fields.peek("under").is_some() {
        let when = if at == StepAt::Prepare { "before anything is quiesced" } else { "when everything is resumed" };
        fields.wrong("under", format!("this step runs {when}: it is under nothing"), Some("leave `under` out"));
    }
    at
}

fn read_expect(fields: &mut Fields) -> Option<Expect> {
    let mut inner = fields.table("expect")?;
    const KEYS: &[&str] = &["matches", "matches_not", "is", "pattern", "scheme", "checks"];
    let expect = Expect { reading: Reading::read(&mut inner), checks: inner.references(List::Check, "checks") };
    // A key that is written wrong was meant to ask something, and is told by itself.
    let unknown = inner.items().iter().any(|item| !KEYS.contains(&item.key.as_str()));
    if !unknown && ["matches", "matches_not", "is", "checks"].iter().all(|key| inner.peek(key).is_none()) {
        fields.wrong("expect", "`expect` asks nothing", Some("it has `matches`, `matches_not`, `is` or `checks`"));
    }
    inner.finish();
    Some(expect)
}

fn read_carry(fields: &mut Fields, at: StepAt) -> Vec<Template> {
    let carry = fields.templates("carry");
    if at == StepAt::Prepare && !carry.is_empty() {
        let hint = "leave `carry` out, or let the step run at `apply`";
        fields.wrong("carry", "nothing is captured yet when this step runs", Some(hint));
    }
    carry
}

fn read_notice(mut fields: Fields) -> Notice {
    let span = fields.span();
    let notice = Notice {
        name: read_name(&mut fields, "this notice", &span),
        text: fields.need_template("text"),
        when: fields.references(List::Check, "when"),
        name_span: fields.span_of("name"),
        span,
    };
    fields.finish();
    notice
}

fn read_policy(mut fields: Fields) -> Policy {
    let policy = Policy {
        on_failure: match fields.word("on_failure", &["rollback", "hold"]) {
            Some("hold") => OnFailure::Hold,
            _ => OnFailure::Rollback,
        },
        confirm_within: fields.time_limit("confirm_within"),
        prove: fields
            .word("prove", &["restore", "read"])
            .map(|w| if w == "read" { Prove::Read } else { Prove::Restore }),
        diagnose: fields.commands("diagnose"),
        snapshot_after: fields.flag("snapshot_after", false),
        keep: fields.integer("keep", 1..=i64::MAX).map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
    };
    fields.finish();
    policy
}
