//! A request of the demo: how it is made, the expected result, and the `curl` line for it.

use anyhow::Result;
use serde_json::Value;

/// A request and its expected result.
pub(super) struct Call {
    pub(super) name: String,
    path: String,
    headers: Vec<(String, String)>,
    /// With a body a POST, without a GET.
    body: Option<String>,
    pub(super) expected: Expected,
}

/// The response that shows that the gate works.
pub(super) struct Expected {
    pub(super) status: u16,
    code: Option<&'static str>,
}

/// The response.
pub(super) struct CallResult {
    pub(super) status: u16,
    /// The `code` of a denial.
    pub(super) code: Option<String>,
    pub(super) rate_limit: Option<String>,
    pub(super) retry_after: Option<String>,
}

impl Expected {
    pub(super) fn status(status: u16) -> Self {
        Self { status, code: None }
    }

    pub(super) fn refusal(status: u16, code: &'static str) -> Self {
        Self {
            status,
            code: Some(code),
        }
    }

    pub(super) fn matches(&self, result: &CallResult) -> bool {
        // A 429 must say when to retry.
        let says_when = result.status != 429 || (result.rate_limit.is_some() && result.retry_after.is_some());
        self.status == result.status && self.code == result.code.as_deref() && says_when
    }
}

impl Call {
    pub(super) fn get(name: &str, path: &str, expected: Expected) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            expected,
        }
    }

    pub(super) fn post(name: &str, path: &str, body: &str, expected: Expected) -> Self {
        Self {
            body: Some(body.to_owned()),
            ..Self::get(name, path, expected)
        }
        .header("content-type", "application/json")
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(super) async fn make(&self, client: &reqwest::Client, base: &str) -> Result<CallResult> {
        let url = format!("{base}{}", self.path);
        let mut request = match &self.body {
            Some(body) => client.post(url).body(body.clone()),
            None => client.get(url),
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().await?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (status, problem) = (response.status().as_u16(), header("content-type"));
        let (rate_limit, retry_after) = (header("ratelimit"), header("retry-after"));
        let is_problem = problem.is_some_and(|kind| kind.starts_with("application/problem+json"));
        let body = response.bytes().await?;
        let code = if is_problem { code(&body) } else { None };
        Ok(CallResult {
            status,
            code,
            rate_limit,
            retry_after,
        })
    }

    /// The same request for a shell.
    pub(super) fn curl(&self, base: &str) -> String {
        let mut line = format!("curl -i {}", shell_quoted(&format!("{base}{}", self.path)));
        for (name, value) in &self.headers {
            line.push_str(&format!(" -H {}", shell_quoted(&format!("{name}: {value}"))));
        }
        if let Some(body) = &self.body {
            line.push_str(&format!(" --data-binary {}", shell_quoted(body)));
        }
        line
    }
}

/// The `code` member of a problem document (RFC 9457).
fn code(body: &[u8]) -> Option<String> {
    let problem: Value = serde_json::from_slice(body).ok()?;
    Some(problem.get("code")?.as_str()?.to_owned())
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curl_lines_can_be_pasted() {
        let call = Call::post("x", "/p?a=1&b", "it's", Expected::status(200)).bearer("t");
        assert_eq!(
            call.curl("http://h"),
            r"curl -i 'http://h/p?a=1&b' -H 'content-type: application/json' -H 'authorization: Bearer t' --data-binary 'it'\''s'"
        );
    }

    #[test]
    fn a_429_must_say_when_to_retry() {
        let expected = Expected::refusal(429, "limit_exceeded");
        let mut result = CallResult {
            status: 429,
            code: Some("limit_exceeded".to_owned()),
            rate_limit: Some(r#""per-caller";r=0;t=2"#.to_owned()),
            retry_after: None,
        };
        assert!(!expected.matches(&result));
        result.retry_after = Some("2".to_owned());
        assert!(expected.matches(&result));
        assert!(!Expected::status(200).matches(&result));
    }
}
