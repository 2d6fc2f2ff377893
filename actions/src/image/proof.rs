//! That bytes are the ones somebody promised: a digest, a minisign signature, both or none, taken while they pass by.

use minisign_verify::{PublicKey, Signature};

use crate::image::checksum::{Checksum, Promise};

/// What has to be true of the bytes.
#[derive(Clone, Default)]
pub struct Proof {
    /// Their digest.
    pub checksum: Promise,
    /// Who signed them.
    pub signature: Option<Signed>,
}

/// A signature and the only key that is believed.
#[derive(Clone)]
pub struct Signed {
    key: PublicKey,
    signature: Signature,
}

/// What was not true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Other bytes.
    Digest {
        /// As promised.
        expected: Checksum,
        /// As it came.
        actual: Checksum,
    },
    /// Other bytes, another key, or a trusted comment that was changed.
    Signature,
}

/// The text of a public key (the whole file or its last line) and of a signature file.
pub fn signed(key: &str, signature: &str) -> Result<Signed, String> {
    let line = key.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let key = PublicKey::from_base64(line).map_err(|_| "IMG_PUBKEY is no minisign public key".to_owned())?;
    let signature = Signature::decode(signature).map_err(|_| "IMG_SIGNATURE is no minisign signature".to_owned())?;
    match key.verify_stream(&signature) {
        Ok(_) => Ok(Signed { key, signature }),
        Err(minisign_verify::Error::UnexpectedKeyId) => {
            Err("IMG_SIGNATURE was made with another key than IMG_PUBKEY".to_owned())
        }
        Err(_) => {
            Err("IMG_SIGNATURE is of the old kind that is not of a hash: sign again with a newer minisign".into())
        }
    }
}

impl Proof {
    /// Whether nothing is promised.
    pub fn is_waived(&self) -> bool {
        self.checksum == Promise::Waived && self.signature.is_none()
    }

    /// Takes in all blocks and hands each one on.
    pub fn of<B: AsRef<[u8]>>(&self, blocks: impl Iterator<Item = B>, mut on: impl FnMut(B)) -> Result<(), Wrong> {
        let mut hasher = match &self.checksum {
            Promise::Checked(checksum) => Some((checksum, checksum.hasher())),
            Promise::Waived => None,
        };
        let mut verifier = match &self.signature {
            Some(signed) => Some(signed.key.verify_stream(&signed.signature).map_err(|_| Wrong::Signature)?),
            None => None,
        };
        for block in blocks {
            if let Some((_, hasher)) = &mut hasher {
                hasher.update(block.as_ref());
            }
            if let Some(verifier) = &mut verifier {
                verifier.update(block.as_ref());
            }
            on(block);
        }
        if let Some((expected, hasher)) = hasher {
            let actual = hasher.finish();
            if actual != *expected {
                return Err(Wrong::Digest { expected: expected.clone(), actual });
            }
        }
        verifier.map_or(Ok(()), |mut verifier| verifier.finalize().map_err(|_| Wrong::Signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "untrusted comment: minisign public key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1556193335\tfile:test\n\
        y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n";

    fn check(proof: &Proof, bytes: &[u8]) -> Result<(), Wrong> {
        let mut passed = Vec::new();
        let result = proof.of(bytes.chunks(3), |block| passed.extend_from_slice(block));
        assert_eq!(passed, bytes, "every block is handed on");
        result
    }

    #[test]
    fn a_signature_is_of_exactly_these_bytes() {
        let proof = Proof { signature: Some(signed(KEY, SIGNATURE).unwrap()), ..Proof::default() };
        assert!(!proof.is_waived());
        assert_eq!(check(&proof, b"test"), Ok(()));
        assert_eq!(check(&proof, b"Test"), Err(Wrong::Signature));
        assert_eq!(check(&proof, b""), Err(Wrong::Signature));
    }

    #[test]
    fn what_is_no_key_or_signature_is_named() {
        for (key, signature, name) in [("x", SIGNATURE, "IMG_PUBKEY"), (KEY, "x", "IMG_SIGNATURE")] {
            let problem = signed(key, signature).err().unwrap();
            assert!(problem.contains(name), "{problem}");
        }
        let other = "RWQf6LRCGA9i54mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".replacen("Qf6", "Qf7", 1);
        assert!(signed(&other, SIGNATURE).is_err_and(|problem| problem.contains("another key")));
    }

    #[test]
    fn a_digest_is_taken_over_all_blocks() {
        let sum = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let proof = Proof { checksum: crate::image::checksum::parse(sum).unwrap(), signature: None };
        assert_eq!(check(&proof, b"test"), Ok(()));
        assert!(matches!(check(&proof, b"tesT"), Err(Wrong::Digest { .. })));
    }
}
