//! Signing methods (RFC 7518): which algorithm, and what its keys look like in a file.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};

use crate::auth::pem;

type Verification = &'static dyn VerificationAlgorithm;

pub(super) enum Private {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// The key of one method.
pub(super) enum Key {
    /// One secret, to sign and to check.
    Secret(Box<hmac::Key>),
    /// A pair, or only its public half.
    Pair {
        verification: Verification,
        public: Vec<u8>,
        private: Option<Private>,
    },
}

enum Kind {
    Rsa(&'static dyn RsaEncoding),
    Ec(&'static EcdsaSigningAlgorithm),
    Ed,
}

fn secret(method: &str) -> Option<hmac::Algorithm> {
    Some(match method {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return None,
    })
}

fn pair(method: &str) -> Option<(Kind, Verification)> {
    Some(match method {
        "RS256" => (
            Kind::Rsa(&signature::RSA_PKCS1_SHA256),
            &signature::RSA_PKCS1_2048_8192_SHA256,
        ),
        "RS384" => (
            Kind::Rsa(&signature::RSA_PKCS1_SHA384),
            &signature::RSA_PKCS1_2048_8192_SHA384,
        ),
        "RS512" => (
            Kind::Rsa(&signature::RSA_PKCS1_SHA512),
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ),
        "PS256" => (
            Kind::Rsa(&signature::RSA_PSS_SHA256),
            &signature::RSA_PSS_2048_8192_SHA256,
        ),
        "PS384" => (
            Kind::Rsa(&signature::RSA_PSS_SHA384),
            &signature::RSA_PSS_2048_8192_SHA384,
        ),
        "PS512" => (
            Kind::Rsa(&signature::RSA_PSS_SHA512),
            &signature::RSA_PSS_2048_8192_SHA512,
        ),
        "ES256" => (
            Kind::Ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            &signature::ECDSA_P256_SHA256_FIXED,
        ),
        "ES384" => (
            Kind::Ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            &signature::ECDSA_P384_SHA384_FIXED,
        ),
        "ES512" => (
            Kind::Ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            &signature::ECDSA_P521_SHA512_FIXED,
        ),
        "EdDSA" => (Kind::Ed, &signature::ED25519),
        _ => return None,
    })
}

impl Key {
    /// The key of `method` from the contents of key files.
    pub(super) fn new(
        method: &str,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
    ) -> Result<Self, String> {
        if let Some(algorithm) = secret(method) {
            // etcd's: the private key's file as it is.
            let secret = private.filter(|secret| !secret.is_empty());
            let secret = secret.ok_or("missing key data: priv-key is the secret of this method")?;
            return Ok(Self::Secret(Box::new(hmac::Key::new(algorithm, secret))));
        }
        let (kind, verification) =
            pair(method).ok_or_else(|| format!("sign-method='{method}' is not known"))?;
        let private = private.map(|text| read_private(kind, text)).transpose()?;
        let given = public.map(read_public).transpose()?;
        let own = private.as_ref().map(|private| match private {
            Private::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Private::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Private::Ed(pair) => pair.public_key().as_ref().to_vec(),
        });
        let key = Self::Pair {
            verification,
            public: given
                .or(own)
                .ok_or("missing key data: neither pub-key nor priv-key")?,
            private,
        };
        // Also finds two halves that do not belong together, and a public key of another kind.
        const PROBE: &[u8] = b"coord";
        match key.sign(PROBE) {
            Some(signature) if !key.is_right(PROBE, &signature) => {
                Err("public and private keys don't match".to_owned())
            }
            Some(_) | None => Ok(key),
        }
    }

    /// `None` if there is only the half that checks.
    pub(super) fn sign(&self, said: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(key) => Some(hmac::sign(key, said).as_ref().to_vec()),
            Self::Pair { private, .. } => match private.as_ref()? {
                Private::Rsa(pair, encoding) => {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    let signed = pair.sign(*encoding, &random, said, &mut signature);
                    signed.ok().map(|()| signature)
                }
                Private::Ec(pair) => {
                    let signature = pair.sign(&random, said).ok()?;
                    Some(signature.as_ref().to_vec())
                }
                Private::Ed(pair) => Some(pair.sign(said).as_ref().to_vec()),
            },
        }
    }

    pub(super) fn is_right(&self, said: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, said, signature).is_ok(),
            Self::Pair {
                verification,
                public,
                ..
            } => UnparsedPublicKey::new(*verification, public)
                .verify(said, signature)
                .is_ok(),
        }
    }
}

fn block(text: &[u8]) -> Result<(String, Vec<u8>), String> {
    let text = std::str::from_utf8(text).map_err(|_| "a key file is not PEM")?;
    let (name, bytes) = pem::first_block(text).ok_or("a key file is not PEM")?;
    Ok((name.to_owned(), bytes))
}

fn read_private(kind: Kind, text: &[u8]) -> Result<Private, String> {
    let (name, der) = block(text)?;
    let wrong = |why| format!("priv-key ({name}) is of another kind: {why}");
    Ok(match kind {
        Kind::Rsa(encoding) => {
            let pair = match name.as_str() {
                "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
                _ => RsaKeyPair::from_pkcs8(&der),
            };
            Private::Rsa(pair.map_err(wrong)?, encoding)
        }
        Kind::Ec(algorithm) => {
            let pair = EcdsaKeyPair::from_private_key_der(algorithm, &der);
            Private::Ec(pair.map_err(wrong)?)
        }
        Kind::Ed => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
            Private::Ed(pair.map_err(wrong)?)
        }
    })
}

fn read_public(text: &[u8]) -> Result<Vec<u8>, String> {
    let (name, der) = block(text)?;
    match name.as_str() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Ok(der),
        other => Err(format!("pub-key is a {other}, and must be a PUBLIC KEY")),
    }
}
