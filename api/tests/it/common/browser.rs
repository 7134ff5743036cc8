//! A browser, as far as signing in by others needs one: cookies per site with their `SameSite`, redirections,
//! pages that go on by themselves, forms.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Method, Url, redirect};
use ztna_proto::relay::CertificatePin;

/// More steps than any sign-in has.
const MAX_STEPS: usize = 20;

/// A page that the browser shows.
#[derive(Clone)]
pub struct Shown {
    pub url: Url,
    pub status: u16,
    pub text: String,
    /// `Content-Security-Policy`
    pub policy: String,
}

pub struct Browser {
    http: reqwest::Client,
    /// (site, name) → (value, whether it is strict).
    cookies: BTreeMap<(String, String), (String, bool)>,
    /// Whose page the browser shows.
    site: Option<String>,
    /// An address that ends with this in its path is not opened.
    pub stop_at: Option<String>,
}

/// Ports tell sites apart here: everything runs on one host.
fn site_of(url: &Url) -> String {
    format!(
        "{}:{}",
        url.host_str().unwrap(),
        url.port_or_known_default().unwrap()
    )
}

impl Browser {
    pub fn new() -> Self {
        let tls = ztna_tls::client_config(
            &CertificatePin::WebPki,
            ztna_tls::KeyExchange::PreferPostQuantum,
        );
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.unwrap().as_ref().clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self {
            http,
            cookies: BTreeMap::new(),
            site: None,
            stop_at: None,
        }
    }

    /// As somebody who types an address.
    pub async fn open(&mut self, url: &str) -> Shown {
        self.site = None;
        self.go(Method::GET, Url::parse(url).unwrap(), None).await
    }

    /// Follows a link, or a form, of the page that is shown.
    pub async fn follow(&mut self, from: &Shown, url: &str) -> Shown {
        let url = from.url.join(&unescape(url)).unwrap();
        self.go(Method::GET, url, None).await
    }

    /// Sends the page's form with the fields, and what the form has hidden.
    pub async fn submit(&mut self, from: &Shown, fields: &[(&str, &str)]) -> Shown {
        let form = between(&from.text, "<form", "</form>").expect("the page has a form");
        let action = between(form, "action=\"", "\"").unwrap();
        let url = from.url.join(&unescape(action)).unwrap();
        let mut body = Url::parse("x:").unwrap();
        for hidden in form.split("<input").skip(1) {
            let tag = hidden.split('>').next().unwrap();
            if tag.contains("type=\"hidden\"") {
                let name = between(tag, "name=\"", "\"").unwrap();
                let value = between(tag, "value=\"", "\"").unwrap_or_default();
                body.query_pairs_mut().append_pair(name, &unescape(value));
            }
        }
        body.query_pairs_mut().extend_pairs(fields);
        let body = body.query().unwrap().to_owned();
        if form.contains("method=\"get\"") {
            let mut url = url;
            url.set_query(Some(&body));
            return self.go(Method::GET, url, None).await;
        }
        self.go(Method::POST, url, Some(body)).await
    }

    /// The value of a cookie.
    pub fn cookie(&self, url: &str, name: &str) -> Option<&str> {
        let key = (site_of(&Url::parse(url).unwrap()), name.to_owned());
        self.cookies.get(&key).map(|(value, _)| value.as_str())
    }

    /// Drops what a site has set: nobody is signed in there any more.
    pub fn forget(&mut self, url: &str) {
        let site = site_of(&Url::parse(url).unwrap());
        self.cookies.retain(|(of, _), _| *of != site);
    }

    /// One navigation: redirections keep who began it, pages that go on by themselves begin another. What
    /// leads to where nobody listens ends it.
    async fn go(&mut self, method: Method, url: Url, body: Option<String>) -> Shown {
        let (mut method, mut url, mut body) = (method, url, body);
        for _ in 0..MAX_STEPS {
            let stop = self.stop_at.as_ref();
            let stopped = stop.is_some_and(|end| url.path().ends_with(end.as_str()));
            let step = match stopped {
                true => None,
                false => match self.step(&method, &url, body.take()).await {
                    Ok(step) => Some(step),
                    Err(error) if error.is_connect() => None,
                    Err(error) => panic!("{method} {url}: {error:?}"),
                },
            };
            let Some((shown, next)) = step else {
                let text = String::new();
                let policy = String::new();
                return Shown {
                    url,
                    status: 0,
                    text,
                    policy,
                };
            };
            method = Method::GET;
            if let Some(next) = next {
                url = url.join(&next).unwrap();
                continue;
            }
            self.site = Some(site_of(&url));
            let refresh = between(
                &shown.text,
                "http-equiv=\"refresh\" content=\"0; url=",
                "\"",
            );
            match refresh {
                Some(next) => url = url.join(&unescape(next)).unwrap(),
                None => return shown,
            }
        }
        panic!("it goes round in circles, at {url}");
    }

    async fn step(
        &mut self,
        method: &Method,
        url: &Url,
        body: Option<String>,
    ) -> Result<(Shown, Option<String>), reqwest::Error> {
        let site = site_of(url);
        let same_site = self.site.as_ref().is_none_or(|from| *from == site);
        let sent: Vec<String> = self
            .cookies
            .iter()
            .filter(|((of, _), (_, strict))| *of == site && (same_site || !strict))
            .filter(|_| same_site || *method == Method::GET)
            .map(|((_, name), (value, _))| format!("{name}={value}"))
            .collect();
        let mut request = self.http.request(method.clone(), url.clone());
        if !sent.is_empty() {
            request = request.header(COOKIE, sent.join("; "));
        }
        let from = match &self.site {
            None => "none",
            Some(_) if same_site => "same-origin",
            Some(_) => "cross-site",
        };
        request = request.header("sec-fetch-site", from);
        if let Some(body) = body {
            let from = self.site.clone().unwrap_or_else(|| site.clone());
            request = request
                .header("origin", format!("http://{from}"))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body);
        }
        let response = request.send().await?;
        for set in response.headers().get_all(SET_COOKIE) {
            let set = set.to_str().unwrap();
            let (pair, rest) = set.split_once(';').unwrap_or((set, ""));
            let (name, value) = pair.split_once('=').unwrap();
            let key = (site.clone(), name.to_owned());
            match value.is_empty() {
                true => drop(self.cookies.remove(&key)),
                false => {
                    let strict = rest.to_lowercase().contains("samesite=strict");
                    self.cookies.insert(key, (value.to_owned(), strict));
                }
            }
        }
        let header = |name| {
            let value = response.headers().get(name);
            value.map(|value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned())
        };
        let (next, policy) = (header(LOCATION.as_str()), header("content-security-policy"));
        let shown = Shown {
            url: url.clone(),
            status: response.status().as_u16(),
            policy: policy.unwrap_or_default(),
            text: response.text().await?,
        };
        Ok((shown, next))
    }
}

/// What stands between two marks.
pub fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?
        .1
        .split_once(end)
        .map(|(found, _)| found)
}

fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&amp;", "&")
}
