//! ML-KEM-768 as this crate uses it: the vectors of `vectors/ml-kem-768.json` (NIST, Wycheproof), and
//! against aws-lc, an implementation by others in another language.

use aws_lc_rs::kem::{self, ML_KEM_768};
#[allow(deprecated)]
use ml_kem::ExpandedKeyEncoding;
use rand::{Rng, RngExt, SeedableRng};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use ztna_proto::keys::hex;

use crate::KemPrivateKey;
use crate::exchange::{decapsulate, encapsulate};
use crate::keys::KEM_SEED_LEN;
use crate::wire::CIPHERTEXT_LEN;

/// Key pairs of each test against aws-lc.
const PAIRS: u64 = 100;

#[derive(Deserialize)]
struct Vectors {
    keygen: Vec<KeyGen>,
    decapsulate: Vec<Decapsulate>,
    encapsulate: Vec<Encapsulate>,
}

#[derive(Deserialize)]
struct KeyGen {
    name: String,
    seed: String,
    ek_sha256: String,
    dk_sha256: String,
}

#[derive(Deserialize)]
struct Decapsulate {
    name: String,
    seed: String,
    ek_sha256: Option<String>,
    c: String,
    k: Option<String>,
}

#[derive(Deserialize)]
struct Encapsulate {
    name: String,
    ek: String,
    m: Option<String>,
    c_sha256: Option<String>,
    k: Option<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../vectors/ml-kem-768.json")).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn key(seed: &[u8]) -> Option<KemPrivateKey> {
    seed.try_into().ok().map(KemPrivateKey::from_seed)
}

/// The decapsulation key in the form of FIPS 203 §7.1, which other implementations take.
#[allow(deprecated)]
fn expanded(key: &KemPrivateKey) -> Vec<u8> {
    key.expand().to_expanded_bytes().to_vec()
}

#[test]
fn keys_come_from_their_seeds_as_nist_and_wycheproof_say() {
    for vector in vectors().keygen {
        let key = key(&unhex(&vector.seed)).unwrap();
        let public = Sha256::digest(key.public().as_bytes());
        assert_eq!(hex(&public), vector.ek_sha256, "{}", vector.name);
        let private = Sha256::digest(expanded(&key));
        assert_eq!(hex(&private), vector.dk_sha256, "{}", vector.name);
    }
}

#[test]
fn decapsulation_is_wycheproofs_and_rejects_implicitly() {
    let mut refused = 0;
    for vector in vectors().decapsulate {
        let name = &vector.name;
        let ciphertext: Result<[u8; CIPHERTEXT_LEN], _> = unhex(&vector.c).try_into();
        let (Some(key), Ok(ciphertext)) = (key(&unhex(&vector.seed)), ciphertext) else {
            assert_eq!(vector.k, None, "{name}");
            refused += 1;
            continue;
        };
        let public = Sha256::digest(key.public().as_bytes());
        assert_eq!(Some(hex(&public)), vector.ek_sha256, "{name}");
        let shared = decapsulate(&key.expand(), &ciphertext).unwrap();
        assert_eq!(Some(hex(shared.as_slice())), vector.k, "{name}");
    }
    assert_eq!(
        refused, 4,
        "vectors whose key or ciphertext has a wrong length"
    );
}

#[test]
fn encapsulation_is_wycheproofs_and_refuses_keys_that_are_not_reduced() {
    let mut refused = 0;
    for vector in vectors().encapsulate {
        let name = &vector.name;
        let m = vector.m.as_deref().map_or(vec![0; 32], unhex);
        let m = m.try_into().unwrap();
        let made = encapsulate(&unhex(&vector.ek), &m).ok();
        refused += usize::from(made.is_none());
        let (c, k) = made
            .map(|(c, k)| (hex(&Sha256::digest(c)), hex(k.as_slice())))
            .unzip();
        assert_eq!((c, k), (vector.c_sha256, vector.k), "{name}");
    }
    assert_eq!(refused, 10, "vectors whose key is to be refused");
}

fn pairs() -> impl Iterator<Item = (rand::rngs::StdRng, KemPrivateKey)> {
    (0..PAIRS).map(|n| {
        let mut rng = rand::rngs::StdRng::seed_from_u64(n);
        let mut seed = [0; KEM_SEED_LEN];
        rng.fill_bytes(&mut seed);
        (rng, KemPrivateKey::from_seed(seed))
    })
}

#[test]
fn what_aws_lc_encapsulates_we_decapsulate() {
    for (_, key) in pairs() {
        let public = key.public();
        let theirs = kem::EncapsulationKey::new(&ML_KEM_768, public.as_bytes()).unwrap();
        let (ciphertext, shared) = theirs.encapsulate().unwrap();
        let ciphertext = ciphertext.as_ref().try_into().unwrap();
        let ours = decapsulate(&key.expand(), &ciphertext).unwrap();
        assert_eq!(ours.as_slice(), shared.as_ref());
    }
}

/// A key of this crate's in aws-lc decapsulates the same, right ciphertexts and wrong ones: so the
/// secret of implicit rejection is the same as well.
#[test]
fn what_we_encapsulate_aws_lc_decapsulates_wrong_ciphertexts_included() {
    for (mut rng, key) in pairs() {
        let theirs = kem::DecapsulationKey::new(&ML_KEM_768, &expanded(&key)).unwrap();
        let mut m = [0; 32];
        rng.fill_bytes(&mut m);
        let (mut ciphertext, shared) = encapsulate(key.public().as_bytes(), &m).unwrap();
        let opened = theirs.decapsulate(ciphertext.as_slice().into()).unwrap();
        assert_eq!(opened.as_ref(), shared.as_slice());

        ciphertext[rng.random_range(0..CIPHERTEXT_LEN)] ^= 1 << rng.random_range(0..8);
        let ours = decapsulate(&key.expand(), &ciphertext).unwrap();
        let opened = theirs.decapsulate(ciphertext.as_slice().into()).unwrap();
        assert_eq!(opened.as_ref(), ours.as_slice());
        assert_ne!(ours.as_slice(), shared.as_slice(), "implicit rejection");
    }
}

/// A key that aws-lc made, read by the crate under ours.
#[test]
#[allow(deprecated)]
fn a_key_of_aws_lc_opens_what_we_encapsulate_to_it() {
    for n in 0..PAIRS {
        let theirs = kem::DecapsulationKey::generate(&ML_KEM_768).unwrap();
        let public = theirs.encapsulation_key().unwrap().key_bytes().unwrap();
        let m = [u8::try_from(n).unwrap(); 32];
        let (ciphertext, shared) = encapsulate(public.as_ref(), &m).unwrap();
        let opened = theirs.decapsulate(ciphertext.as_slice().into()).unwrap();
        assert_eq!(opened.as_ref(), shared.as_slice());

        let private = theirs.key_bytes().unwrap();
        let bytes = private.as_ref().try_into().unwrap();
        let ours = ml_kem::ml_kem_768::DecapsulationKey::from_expanded_bytes(&bytes).unwrap();
        let opened = decapsulate(&ours, &ciphertext).unwrap();
        assert_eq!(opened.as_slice(), shared.as_slice());
    }
}
