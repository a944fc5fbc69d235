//! `kind = "http"`: one GET; the status must be among those expected and the body say what it must.
//!
//! Promises: never follows a redirect (a redirect is an answer like any other: `status = [302]`), never uses a
//! proxy, asks at most 32 MiB of body. What is refused, reset or late is a no; a wrong address is an error.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::{Check, Finding, Kind, Reads, promptly};
use crate::context::{Context, default_timeout, run};
use crate::error::{Error, OrSay, Result};
use crate::plan::{Fields, Reading, Scope, Template, Value};

/// Keys: `url`, `status` (`[200]`), `headers`, `ca_file`, `timeout` (30 s), and those of a reading.
pub(super) const KIND: Kind = Kind { name: "http", read, reads: Reads::Text };

const BODY_LIMIT: u64 = 32 << 20;

fn read(fields: &mut Fields) -> Box<dyn Check> {
    let mut status = fields.integers("status").unwrap_or_default();
    if status.iter().any(|status| !(100..=599).contains(status)) {
        fields.wrong("status", "a status is a number from 100 to 599", Some("status = [200]"));
    }
    if status.is_empty() {
        status.push(200);
    }
    Box::new(Asked {
        url: fields.need_template("url"),
        status,
        headers: fields.values("headers"),
        ca_file: fields.template("ca_file"),
        timeout: fields.time_limit("timeout").unwrap_or(default_timeout::CHECK),
        reading: Reading::read(fields),
    })
}

struct Asked {
    url: Template,
    status: Vec<i64>,
    headers: BTreeMap<String, Value>,
    ca_file: Option<Template>,
    timeout: Duration,
    reading: Reading,
}

type Request = ureq::RequestBuilder<ureq::typestate::WithoutBody>;

struct Answer {
    status: u16,
    body: String,
}

impl Asked {
    /// The outer error will not get better by waiting; the inner one may.
    fn get(&self, cx: &Context<'_>) -> Result<Result<Answer, String>> {
        let url = self.url.expand(&cx.scope)?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("txupgrade/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(self.timeout));
        if let Some(file) = &self.ca_file {
            let file = file.path(&cx.scope)?;
            config = config.tls_config(TlsConfig::builder().root_certs(certificates(&file)?).build());
        }
        let agent: ureq::Agent = config.build().new_agent();
        let mut request = agent.get(&url);
        for (name, value) in &self.headers {
            request = request.header(name, value.read(&cx.scope)?.0);
        }
        let timeout = self.timeout;
        promptly(cx, move || call(request, &url, timeout))?
    }
}

fn call(request: Request, url: &str, timeout: Duration) -> Result<Result<Answer, String>> {
    let mut response = match request.call() {
        Ok(response) => response,
        Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
            return Err(Error::new(format!("cannot ask `{url}`")).because(error));
        }
        Err(error) => return Ok(Err(in_words(&error, timeout))),
    };
    let mut body = Vec::new();
    let read = response.body_mut().with_config().limit(u64::MAX).reader().take(BODY_LIMIT).read_to_end(&mut body);
    Ok(match read {
        Ok(_) => Ok(Answer { status: response.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned() }),
        Err(error) => Err(format!("status {}, then: {error}", response.status().as_u16())),
    })
}

impl Check for Asked {
    fn describe(&self, scope: &Scope) -> String {
        format!("GET {}", self.url.expand(scope).unwrap_or_default())
    }

    fn time_limit(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    fn ask(&self, cx: &Context<'_>) -> Result<Finding> {
        let answer = match self.get(cx)? {
            Ok(answer) => answer,
            Err(why) => return Ok(Finding::no(why)),
        };
        if !self.status.contains(&i64::from(answer.status)) {
            return Ok(Finding::no(format!("status {}", answer.status)));
        }
        Ok(match self.reading.judge(&answer.body, &cx.scope)? {
            Some(why) => Finding::no(format!("status {}, but {why}", answer.status)),
            None => Finding::yes(format!("status {}", answer.status)),
        })
    }

    fn read_text(&self, cx: &Context<'_>) -> Result<String> {
        let say = || format!("cannot read `{}`", self.url.expand(&cx.scope).unwrap_or_default());
        let answer = self.get(cx)?.or_say(say)?;
        match self.status.contains(&i64::from(answer.status)) {
            true => Ok(answer.body),
            false => Err(Error::new(say()).because(format!("status {}", answer.status))),
        }
    }
}

fn in_words(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {}", run::in_words(timeout)),
        ureq::Error::HostNotFound => "the host is not known".to_owned(),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connection refused".to_owned()
        }
        ureq::Error::ConnectionFailed => "connection refused".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn certificates(file: &std::path::Path) -> Result<RootCerts> {
    let say = || format!("cannot read the certificates in `{}`", file.display());
    let pem = std::fs::read(file).or_say(say)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.or_say(say)? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(Error::new(format!("`{}` holds no PEM certificate", file.display())));
    }
    Ok(RootCerts::from(found))
}
