//! `tls-protocols`, `tls-ciphers` and `tls-ciphersuites`: OpenSSL's words for
//! what rustls can do. What it cannot is refused by name, and never silently
//! left out of a list of what is allowed.

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

use crate::config::Tls;

/// Protocol versions by name.
pub fn versions(text: &str) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let mut found = Vec::new();
    for word in text.split_ascii_whitespace() {
        let version = match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => &rustls::version::TLS12,
            "tlsv1.3" => &rustls::version::TLS13,
            "tlsv1" | "tlsv1.1" => {
                return Err(format!("tls-protocols: {word} is broken and not supported, only TLSv1.2 and TLSv1.3"));
            }
            _ => return Err(format!("Invalid tls-protocols specified: {word}")),
        };
        found.push(version);
    }
    if found.is_empty() {
        found = vec![&rustls::version::TLS13, &rustls::version::TLS12];
    }
    Ok(found)
}

/// A provider with the ciphers that are allowed, in the order of preference.
pub fn provider(t: &Tls) -> Result<CryptoProvider, String> {
    let mut provider = super::tls::provider();
    let (new, old): (Vec<_>, Vec<_>) = provider.cipher_suites.iter().copied().partition(is_tls13);
    let mut chosen = suites(&t.ciphersuites, &new)?;
    chosen.extend(ciphers(&t.ciphers, &old)?);
    provider.cipher_suites = chosen;
    Ok(provider)
}

fn is_tls13(suite: &SupportedCipherSuite) -> bool {
    matches!(suite, SupportedCipherSuite::Tls13(_))
}

/// The name that OpenSSL gives a suite.
fn name(suite: &SupportedCipherSuite) -> String {
    match suite.suite() {
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256".into(),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384".into(),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305".into(),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256".into(),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384".into(),
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305".into(),
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256".into(),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384".into(),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256".into(),
        other => format!("{other:?}"),
    }
}

/// TLS 1.3: names, separated by colons; empty for all.
fn suites(text: &str, known: &[SupportedCipherSuite]) -> Result<Vec<SupportedCipherSuite>, String> {
    if text.is_empty() {
        return Ok(known.to_vec());
    }
    let one = |word: &str| {
        let suite = known.iter().find(|s| name(s).eq_ignore_ascii_case(word)).copied();
        suite.ok_or_else(|| format!("tls-ciphersuites: {word} is not supported"))
    };
    text.split(':').map(one).collect()
}

/// Groups of suites, by the words of OpenSSL's lists that make sense for them.
fn is_in_group(suite: &str, group: &str) -> Option<bool> {
    let has = |part: &str| suite.split('-').any(|p| p == part);
    Some(match group {
        // All that there are: authenticated, encrypted, with fresh keys.
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "AEAD" => true,
        "AES" => has("AES128") || has("AES256"),
        "AESGCM" => has("GCM"),
        "AES128" | "AES256" | "CHACHA20" | "ECDSA" | "SHA256" | "SHA384" => has(group),
        "aECDSA" => has("ECDSA"),
        "aRSA" => has("RSA"),
        "aNULL"
        | "eNULL"
        | "NULL"
        | "LOW"
        | "MEDIUM"
        | "EXP"
        | "EXPORT"
        | "DES"
        | "3DES"
        | "RC2"
        | "RC4"
        | "IDEA"
        | "SEED"
        | "CAMELLIA"
        | "ARIA"
        | "MD5"
        | "SHA1"
        | "SHA"
        | "PSK"
        | "SRP"
        | "DSS"
        | "aDSS"
        | "kRSA"
        | "RSA"
        | "DH"
        | "DHE"
        | "EDH"
        | "kDHE"
        | "kEDH"
        | "ADH"
        | "AECDH"
        | "CBC"
        | "SSLv3"
        | "TLSv1"
        | "TLSv1.0"
        | "COMPLEMENTOFALL"
        | "COMPLEMENTOFDEFAULT"
        | "AESCCM"
        | "AESCCM8" => false,
        _ => return None,
    })
}

/// TLS 1.2: an OpenSSL cipher list; empty for all.
fn ciphers(text: &str, known: &[SupportedCipherSuite]) -> Result<Vec<SupportedCipherSuite>, String> {
    if text.is_empty() {
        return Ok(known.to_vec());
    }
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    let mut banned: Vec<CipherSuite> = Vec::new();
    for word in text.split([':', ',', ' ']).filter(|w| !w.is_empty() && !w.starts_with('@')) {
        let (sign, what) = match word.as_bytes()[0] {
            sign @ (b'!' | b'-' | b'+') => (sign, &word[1..]),
            _ => (0, word),
        };
        let named = matching(what, known)?;
        // To leave out what is not there anyway is no mistake; to ask for it is.
        if named.is_empty() && sign == 0 {
            return Err(format!("tls-ciphers: {what} is not supported"));
        }
        let is_named = |s: &SupportedCipherSuite| named.iter().any(|n| n.suite() == s.suite());
        match sign {
            b'!' => {
                banned.extend(named.iter().map(|s| s.suite()));
                chosen.retain(|s| !is_named(s));
            }
            b'-' => chosen.retain(|s| !is_named(s)),
            b'+' => chosen.sort_by_key(is_named),
            _ => {
                let fresh: Vec<_> =
                    named.iter().filter(|s| !chosen.contains(s) && !banned.contains(&s.suite())).copied().collect();
                chosen.extend(fresh);
            }
        }
    }
    Ok(chosen)
}

/// The suites that a word means: a name, or groups joined by `+`.
fn matching(word: &str, known: &[SupportedCipherSuite]) -> Result<Vec<SupportedCipherSuite>, String> {
    if let Some(suite) = known.iter().find(|s| name(s) == word) {
        return Ok(vec![*suite]);
    }
    // A full name of a suite that does not exist here.
    let is_name = word.contains('-');
    let mut found = Vec::new();
    for suite in known.iter().filter(|_| !is_name) {
        let mut all = true;
        for group in word.split('+') {
            let inside = is_in_group(&name(suite), group);
            all &= inside.ok_or_else(|| format!("tls-ciphers: {group} is not known"))?;
        }
        if all {
            found.push(*suite);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> Result<Vec<String>, String> {
        let known = super::super::tls::provider().cipher_suites;
        let (_, old): (Vec<_>, Vec<_>) = known.into_iter().partition(is_tls13);
        Ok(ciphers(text, &old)?.iter().map(name).collect())
    }

    #[test]
    fn lists_are_read_as_openssl_reads_them() {
        assert_eq!(chosen("").unwrap().len(), 6);
        assert_eq!(chosen("DEFAULT:!aNULL:!MD5").unwrap().len(), 6);
        assert_eq!(chosen("ECDHE-RSA-AES128-GCM-SHA256").unwrap(), ["ECDHE-RSA-AES128-GCM-SHA256"]);
        assert!(chosen("HIGH:!AES128").unwrap().iter().all(|n| !n.contains("AES128")));
        assert!(chosen("ECDHE+AESGCM+aRSA").unwrap().iter().all(|n| n.contains("GCM") && n.contains("-RSA-")));
        assert_eq!(chosen("!CHACHA20:ALL").unwrap().len(), 4);
        assert_eq!(chosen("DEFAULT:-AES128-SHA256").unwrap().len(), 6);
        assert!(chosen("ALL:+CHACHA20").unwrap()[5].contains("CHACHA20"));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(chosen("AES128-SHA256").unwrap_err().contains("AES128-SHA256 is not supported"));
        assert!(chosen("kRSA").unwrap_err().contains("kRSA"));
        assert!(chosen("DEFAULT:!NONSENSE").unwrap_err().contains("NONSENSE"));
        assert!(versions("TLSv1.1").unwrap_err().contains("TLSv1.1"));
        assert!(versions("SSLv3").unwrap_err().contains("SSLv3"));
        assert_eq!(versions("").unwrap().len(), 2);
        assert_eq!(versions("TLSv1.2").unwrap().len(), 1);
    }
}
