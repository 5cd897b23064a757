//! Resume tokens: who, in which incarnation of which room, on which connection, signed with the store's key.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall_protocol::{ConnectionId, ParticipantId, Timestamp};

use crate::store::RoomKey;

/// What a resume token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeClaims {
    /// The room's incarnation.
    pub room: RoomKey,
    /// The participant.
    pub participant: ParticipantId,
    /// The connection it was issued to.
    pub connection: ConnectionId,
    /// How often the participant had been removed by then; one more voids the token.
    pub removals: i64,
    /// The end of the access token it came by.
    pub expires_at: Option<Timestamp>,
}

/// Signs and checks resume tokens (HMAC-SHA256).
pub struct ResumeKey(hmac::Key);

impl std::fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeKey(…)")
    }
}

/// The first byte: another layout would take another number.
const VERSION: u8 = 1;
const BODY: usize = 1 + 8 + 16 + 8 + 8 + 8;
const TAG: usize = 32;

impl ResumeKey {
    /// A key from the store.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Signs.
    pub fn issue(&self, claims: &ResumeClaims) -> String {
        let mut token = Vec::with_capacity(BODY + TAG);
        token.push(VERSION);
        token.extend(claims.room.0.to_be_bytes());
        token.extend(claims.participant.0.as_bytes());
        token.extend(claims.connection.0.to_be_bytes());
        token.extend(claims.removals.to_be_bytes());
        token.extend(
            claims
                .expires_at
                .map_or(i64::MAX, Timestamp::as_millis)
                .to_be_bytes(),
        );
        let tag = hmac::sign(&self.0, &token);
        token.extend(tag.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads a token; `None` if it is not one of ours. Does not look at `expires_at`.
    pub fn read(&self, token: &str) -> Option<ResumeClaims> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, tag) = bytes.split_at_checked(BODY)?;
        hmac::verify(&self.0, body, tag).ok()?;
        let (version, rest) = body.split_first_chunk::<1>()?;
        let (room, rest) = rest.split_first_chunk::<8>()?;
        let (participant, rest) = rest.split_first_chunk::<16>()?;
        let (connection, rest) = rest.split_first_chunk::<8>()?;
        let (removals, rest) = rest.split_first_chunk::<8>()?;
        let (expires, _) = rest.split_first_chunk::<8>()?;
        let expires = i64::from_be_bytes(*expires);
        (*version == [VERSION]).then(|| ResumeClaims {
            room: RoomKey(i64::from_be_bytes(*room)),
            participant: ParticipantId(uuid::Uuid::from_bytes(*participant)),
            connection: ConnectionId(u64::from_be_bytes(*connection)),
            removals: i64::from_be_bytes(*removals),
            expires_at: (expires != i64::MAX).then(|| Timestamp::from_millis(expires)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_was_issued_for_and_nothing_else_is_read() {
        let key = ResumeKey::new(&[7; 32]);
        let claims = ResumeClaims {
            room: RoomKey(3),
            participant: ParticipantId(uuid::Uuid::from_u128(9)),
            connection: ConnectionId(u64::MAX),
            removals: 1,
            expires_at: Some(Timestamp::from_millis(5)),
        };
        let token = key.issue(&claims);
        assert_eq!(key.read(&token), Some(claims));
        assert_eq!(ResumeKey::new(&[8; 32]).read(&token), None);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(
                key.read(&forged).is_none_or(|read| read == claims),
                "byte {at}"
            );
        }
        for garbage in ["", "AAAA", "%%%", &token[1..], &token[..token.len() - 2]] {
            assert_eq!(key.read(garbage), None);
        }
    }
}
