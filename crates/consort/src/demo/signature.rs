//! Signatures of webhooks, as Standard Webhooks 1.0.0 has them (<https://www.standardwebhooks.com>): HMAC-SHA256 over `{id}.{timestamp}.{body}`.

use std::fmt;

use data_encoding::BASE64;
use ring::hmac;

/// How old a request may be, and how far ahead its clock: 5 minutes, as the specification's own libraries have it.
const TOLERANCE_S: i64 = 300;
/// Characters of an id, and signatures that one request may carry.
const ID: usize = 200;
const SIGNATURES: usize = 8;

/// A key that both sides know.
#[derive(Clone)]
pub(super) struct Key {
    secret: String,
    key: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A new one, by chance.
    pub(super) fn new() -> Key {
        Key::of(&rand::random::<[u8; 32]>())
    }

    fn of(bytes: &[u8]) -> Key {
        Key { secret: format!("whsec_{}", BASE64.encode(bytes)), key: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }

    /// The key as it is written: `whsec_` and base64.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Why a request is not to be believed, if it is not. `signatures` are separated by spaces; one that fits is enough. `now` is in seconds
    /// since 1970, and so is `timestamp`.
    pub(super) fn check(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: i64,
    ) -> Result<(), String> {
        if id.is_empty() || id.len() > ID {
            return Err(format!("`webhook-id` has {} characters instead of 1 to {ID}", id.len()));
        }
        let time: i64 = timestamp.parse().map_err(|_| "`webhook-timestamp` is no number of seconds".to_owned())?;
        let apart = now.abs_diff(time);
        if apart > TOLERANCE_S.unsigned_abs() {
            return Err(format!("`webhook-timestamp` is {apart} s off"));
        }
        let signed = signed(id, timestamp, body);
        let fits = |signature: &str| {
            let mac = signature.strip_prefix("v1,").and_then(|mac| BASE64.decode(mac.as_bytes()).ok());
            mac.is_some_and(|mac| hmac::verify(&self.key, &signed, &mac).is_ok())
        };
        if signatures.split(' ').take(SIGNATURES).any(fits) {
            Ok(())
        } else {
            Err("the signature does not fit".to_owned())
        }
    }

    /// What `webhook-signature` says of a request.
    #[cfg(test)]
    pub(super) fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        format!("v1,{}", BASE64.encode(hmac::sign(&self.key, &signed(id, timestamp, body)).as_ref()))
    }
}

fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_fits_and_nothing_else() {
        // The example of Standard Webhooks, with its key `whsec_plJ3nmyCDGBKInavdOK15jsl`.
        let key = Key::of(&BASE64.decode(b"plJ3nmyCDGBKInavdOK15jsl").unwrap());
        assert_eq!(key.secret(), "whsec_plJ3nmyCDGBKInavdOK15jsl");
        let (id, time, at) = ("msg_loFOjxBNrRLzqYUf", "1731705121", 1_731_705_121);
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        let signature = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=";
        assert_eq!(key.sign(id, time, body), signature);
        let fits = |id, time, signatures: &str, body: &[u8], now| key.check(id, time, signatures, body, now);
        assert_eq!(fits(id, time, signature, body, at), Ok(()));
        assert_eq!(fits(id, time, &format!("v1a,x v1,AAAA {signature}"), body, at - 300), Ok(()));
        for (id, time, signatures, body, now, part) in [
            (id, time, signature, &b"{}"[..], at, "the signature"),
            ("other", time, signature, body, at, "the signature"),
            (id, "1731705122", signature, body, at, "the signature"),
            (id, time, "", body, at, "the signature"),
            (id, time, &signature[3..], body, at, "the signature"),
            (id, time, signature, body, at + 301, "301 s off"),
            (id, time, signature, body, at - 301, "301 s off"),
            (id, "soon", signature, body, at, "no number"),
            ("", time, signature, body, at, "`webhook-id` has 0"),
        ] {
            let said = fits(id, time, signatures, body, now).unwrap_err();
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_ne!(Key::new().secret(), Key::new().secret());
        assert!(!format!("{key:?}").contains("plJ3"), "a key is not shown");
    }
}
