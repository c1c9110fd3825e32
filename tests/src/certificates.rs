//! A certificate authority of the test's own, as companies have them.

use std::path::PathBuf;

use chrono::{Datelike as _, TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::site::Site;

/// Who vouches for servers; nobody trusts it unless told to.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

/// What a TLS server is started with.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes one; its certificate lies in the site.
    pub fn new(site: &Site) -> Self {
        let folder = site.folder("certificates");
        let key = KeyPair::generate().expect("make a key");
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Office CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("sign it");
        std::fs::write(folder.join("ca.pem"), certificate.pem()).expect("write the certificate");
        Self { issuer: Issuer::new(params, key), folder }
    }

    /// What `MUSTER_CA_FILE` names.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for these names and addresses, valid from and until so many days from now.
    pub fn certify(&self, names: &[&str], days: (i64, i64)) -> Certificate {
        let key = KeyPair::generate().expect("make a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let day = |offset: i64| {
            let day = (Utc::now() + TimeDelta::days(offset)).date_naive();
            let number = |number: u32| u8::try_from(number).expect("a small number");
            date_time_ymd(day.year(), number(day.month()), number(day.day()))
        };
        (params.not_before, params.not_after) = (day(days.0), day(days.1));
        let certificate = params.signed_by(&key, &self.issuer).expect("sign it");
        let write = |name: &str, text: String| {
            let path = self.folder.join(name);
            std::fs::write(&path, text).expect("write what was certified");
            path
        };
        Certificate {
            chain: write("server.pem", certificate.pem()),
            key: write("server.key", key.serialize_pem()),
        }
    }

    /// A certificate for 127.0.0.1 and `localhost` that is good for a season.
    pub fn certify_this_host(&self) -> Certificate {
        self.certify(&["127.0.0.1", "localhost"], (-1, 90))
    }
}
