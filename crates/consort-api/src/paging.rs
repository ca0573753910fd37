//! Pages of lists. A page token is opaque: the place to go on from, and a checksum over that place and the list it belongs
//! to, so that a token of another list, another filter or another tenant is refused.

use consort_core::Error;
use prost::Message;
use sha2::{Digest, Sha256};

/// Bytes of a page after which it is closed, so that every answer stays far below the 4 MiB a message may have.
pub(crate) const PAGE_BYTES: usize = 2 * 1024 * 1024;

const CHECKSUM: usize = 8;

/// Which list a page is of: the method, the parent and every filter.
pub(crate) struct List(Sha256);

impl List {
    /// The list of a method, seen through these filters. Length prefixes keep `ab` + `c` and `a` + `bc` apart.
    pub(crate) fn new(method: &str, filters: &[&str]) -> List {
        let mut hash = Sha256::new();
        for part in std::iter::once(&method).chain(filters) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        List(hash)
    }

    /// The token that goes on from a place.
    pub(crate) fn token(&self, place: &[u8]) -> String {
        hex::encode([&self.checksum(place)[..], place].concat())
    }

    /// The place a token goes on from; `None` for the first page.
    pub(crate) fn place(&self, token: &str) -> Result<Option<Vec<u8>>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let known = hex::decode(token).ok().filter(|bytes| bytes.len() >= CHECKSUM);
        match known {
            Some(mut bytes) => {
                let place = bytes.split_off(CHECKSUM);
                if bytes == self.checksum(&place) { Ok(Some(place)) } else { Err(bad_token()) }
            }
            None => Err(bad_token()),
        }
    }

    fn checksum(&self, place: &[u8]) -> [u8; CHECKSUM] {
        let digest: [u8; 32] = self.0.clone().chain_update(place).finalize().into();
        *digest.first_chunk().expect("32 bytes have a first 8")
    }
}

/// The token is not of this list.
pub(crate) fn bad_token() -> Error {
    Error::bad_field(
        "page_token",
        "belongs to another list or filter, or is damaged; give the `next_page_token` of the page before with the same filters, or nothing",
    )
}

/// Reads a page size: 0 means `default`, more than 1,000 means 1,000.
pub(crate) fn size(given: i32, default: usize) -> Result<usize, Error> {
    match given {
        0 => Ok(default),
        1.. => Ok((given as usize).min(1_000)),
        _ => Err(Error::bad_field("page_size", format!("`{given}` is negative; give 0 for {default}, or 1 to 1,000"))),
    }
}

/// Turns the rows of a query into a page: at most `size` items and about [`PAGE_BYTES`]. `place` says where the page after an
/// item begins. Ask the store for one row more than `size`: that row tells whether there is a next page.
pub(crate) fn page<R, T: Message>(
    list: &List,
    size: usize,
    rows: &[R],
    mut convert: impl FnMut(&R) -> T,
    place: impl Fn(&R) -> Vec<u8>,
) -> (Vec<T>, String) {
    let mut items = Vec::with_capacity(rows.len().min(size));
    let mut bytes = 0;
    for (index, row) in rows.iter().enumerate() {
        let item = convert(row);
        let length = item.encoded_len();
        let full = items.len() == size || (bytes + length > PAGE_BYTES && !items.is_empty());
        if full {
            return (items, list.token(&place(&rows[index - 1])));
        }
        bytes += length;
        items.push(item);
    }
    (items, String::new())
}

/// Reads a place made of a time and a UUID.
pub(crate) fn time_and_uuid(place: &[u8]) -> Result<(i64, uuid::Uuid), Error> {
    let (time, id) = place.split_first_chunk().ok_or_else(bad_token)?;
    Ok((i64::from_be_bytes(*time), uuid::Uuid::from_slice(id).map_err(|_| bad_token())?))
}

/// Makes the place that [`time_and_uuid`] reads.
pub(crate) fn from_time_and_uuid(time: i64, id: uuid::Uuid) -> Vec<u8> {
    [&time.to_be_bytes()[..], id.as_bytes()].concat()
}

/// Reads a place made of a number.
pub(crate) fn number(place: &[u8]) -> Result<u64, Error> {
    place.try_into().map(u64::from_be_bytes).map_err(|_| bad_token())
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_proto::blob::BlobRef;

    #[test]
    fn a_token_leads_back_to_its_place() {
        let list = List::new("ListRuns", &["default", "audit"]);
        let token = list.token(b"here");
        assert_eq!(list.place(&token).unwrap().as_deref(), Some(&b"here"[..]));
        assert_eq!(list.place("").unwrap(), None);
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let token = List::new("ListRuns", &["default", "audit"]).token(b"here");
        for other in [
            List::new("ListRuns", &["default", ""]),
            List::new("ListRuns", &["acme", "audit"]),
            List::new("ListRuns", &["defaulta", "udit"]),
            List::new("ListDecisions", &["default", "audit"]),
        ] {
            assert_eq!(other.place(&token).unwrap_err().violations[0].field, "page_token");
        }
    }

    #[test]
    fn a_damaged_token_is_refused() {
        let list = List::new("ListRuns", &[]);
        let token = list.token(b"here");
        let (last, head) = (token.chars().last().unwrap(), &token[..token.len() - 1]);
        let altered = format!("{head}{}", if last == '0' { '1' } else { '0' });
        for bad in [altered.as_str(), "zz", "00", head] {
            assert!(list.place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_a_default_and_an_end() {
        assert_eq!((size(0, 50).unwrap(), size(7, 50).unwrap(), size(9_999, 50).unwrap()), (50, 7, 1_000));
        assert!(size(-1, 50).unwrap_err().violations[0].description.contains("-1"));
    }

    #[test]
    fn a_page_ends_by_number_and_by_bytes() {
        let list = List::new("L", &[]);
        let blob = |length: &usize| BlobRef { media_type: "x".repeat(*length), ..Default::default() };
        let place = |length: &usize| (*length as u64).to_be_bytes().to_vec();

        let (items, next) = page(&list, 2, &[1, 2, 3], blob, place);
        assert_eq!(items.len(), 2);
        assert_eq!(number(&list.place(&next).unwrap().unwrap()).unwrap(), 2);

        let (items, next) = page(&list, 9, &[PAGE_BYTES - 100, 200, 3], blob, place);
        assert_eq!(items.len(), 1);
        assert!(!next.is_empty());

        let (items, next) = page(&list, 3, &[1, 2, 3], blob, place);
        assert_eq!((items.len(), next.as_str()), (3, ""));
    }
}
