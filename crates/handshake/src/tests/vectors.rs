//! Known-answer vectors: `vectors/handshake-v1.json`, for second implementations.
//!
//! `ZTNA_WRITE_VECTORS=1 cargo test -p ztna-handshake vectors` writes the file anew. A change of it
//! is a change of the protocol and wants a new version.

use serde::{Deserialize, Serialize};
use ztna_proto::WgPrivateKey;
use ztna_proto::keys::hex;
use ztna_proto::netmap::PqMode;

use crate::biscuit::{self, Contents};
use crate::exchange::{self, Answer, InitAuth, InitRandom, Local, Remote, RespRandom};
use crate::schedule::{ChainKey, Master};
use crate::wire::Message;
use crate::{Identity, KemPrivateKey, cookie, fragments};
use ztna_proto::KemKeyHash;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/handshake-v1.json");

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct File {
    comment: String,
    suite: String,
    vectors: Vec<Vector>,
}

/// Byte strings are hex.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Vector {
    name: String,
    inputs: Inputs,
    outputs: Outputs,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Inputs {
    /// `full` or `light`.
    mode: String,
    /// `required` or `preferred`.
    pq: String,
    initiator: Static,
    responder: Static,
    /// The chain key of a LIGHT handshake.
    chain: Option<String>,
    /// The epoch that the initiator proposes.
    proposed_epoch: u64,
    /// The epoch that the responder chooses.
    epoch: u64,
    /// The epoch that the chain comes from; 0 if FULL.
    base: u64,
    init_session: String,
    init_x25519: String,
    init_mlkem_seed: String,
    init_mlkem_m: Option<String>,
    resp_x25519: String,
    resp_mlkem_m_ephemeral: String,
    resp_mlkem_m_static: Option<String>,
    biscuit_key: String,
    biscuit_number: u64,
    cookie: String,
    cookie_salt: String,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Static {
    x25519_private: String,
    x25519_public: String,
    mlkem_seed: String,
    mlkem_public_sha256: String,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Outputs {
    init: String,
    transcript_after_init: String,
    /// Of the Init, with the cookie of the inputs.
    init_mac2: String,
    resp: String,
    conf: String,
    ack: String,
    cookie_reply: String,
    init_fragments: Vec<String>,
    master: String,
    psk: String,
    psk_fingerprint: String,
    chain: String,
    /// Under the new chain, of an Init by the initiator and by the responder.
    handle_of_initiator: String,
    handle_of_responder: String,
}

/// Bytes that differ from input to input and need no generator to be made again.
fn bytes<const N: usize>(name: &str) -> [u8; N] {
    use sha2::{Digest, Sha256};
    let mut out = [0; N];
    for (index, chunk) in out.chunks_mut(32).enumerate() {
        let block = Sha256::digest(format!("ztna-handshake vectors {name} {index}"));
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
    out
}

fn identity(name: &str) -> Identity {
    Identity {
        wg: WgPrivateKey::from_bytes(bytes(&format!("{name} x25519"))),
        kem: KemPrivateKey::from_seed(bytes(&format!("{name} mlkem"))),
    }
}

fn statics(identity: &Identity) -> Static {
    Static {
        x25519_private: hex(identity.wg.expose()),
        x25519_public: hex(identity.wg.public().as_bytes()),
        mlkem_seed: hex(identity.kem.expose_seed()),
        mlkem_public_sha256: hex(KemKeyHash::of(&identity.kem.public()).as_bytes()),
    }
}

fn init_random(name: &str) -> InitRandom {
    InitRandom {
        session: bytes(&format!("{name} session")),
        ephemeral: bytes(&format!("{name} init x25519")),
        kem_seed: bytes(&format!("{name} init mlkem")),
        static_m: bytes(&format!("{name} init m")),
    }
}

fn resp_random(name: &str) -> RespRandom {
    RespRandom {
        ephemeral: bytes(&format!("{name} resp x25519")),
        ephemeral_m: bytes(&format!("{name} resp m ephemeral")),
        static_m: bytes(&format!("{name} resp m static")),
    }
}

/// Runs one handshake, both sides, each checking the other.
fn vector(
    name: &str,
    pq: PqMode,
    chain: Option<(ChainKey, u64)>,
    epochs: (u64, u64),
) -> (Vector, Master) {
    let (initiator, responder) = (identity("initiator"), identity("responder"));
    let (i, r) = (Local::new(&initiator), Local::new(&responder));
    let remote = |identity: &Identity| Remote {
        wg: identity.wg.public(),
        kem_hash: KemKeyHash::of(&identity.kem.public()),
        pq,
    };
    let (to_i, to_r) = (remote(&initiator), remote(&responder));
    let (key_i, key_r) = (initiator.kem.public(), responder.kem.public());
    let full = chain.is_none();
    let (proposed, epoch) = epochs;
    let base = chain.as_ref().map_or(0, |(_, base)| *base);
    let chain = chain.map(|(key, _)| key);
    let auth = match &chain {
        Some(chain) => InitAuth::Light(chain),
        None => InitAuth::Full(&key_r),
    };
    let random = init_random(name);
    let (init, offer) = exchange::init(&i, &to_r, &auth, proposed, &random).unwrap();
    let Ok(Message::Init(parsed)) = Message::parse(&init) else {
        panic!("an Init expected");
    };
    let (mut transcript, sender) = exchange::open_init(&r, &parsed).unwrap();
    assert_eq!(sender.is_some(), full);
    let seen =
        exchange::authenticate_init(&r, &to_i, chain.as_ref(), &mut transcript, &parsed).unwrap();
    assert_eq!(seen, proposed);
    let transcript_after_init = hex(transcript.hash());

    let biscuit_key = crate::aead::Key::new(bytes(&format!("{name} biscuit key")));
    let biscuit_number = 7;
    let answers = resp_random(name);
    let answer = Answer {
        remote: &to_i,
        kem_key: full.then_some(&key_i),
        epoch,
        random: &answers,
    };
    let mut master = None;
    let resp = answer
        .resp(transcript, &parsed, |made| {
            master = Some(made.clone());
            let contents = Contents {
                master: made.clone(),
                initiator: initiator.wg.public(),
                epoch,
                base,
            };
            biscuit::seal_with(&biscuit_key, biscuit_number, &contents, parsed.session)
        })
        .unwrap();
    let master = master.unwrap();
    let Ok(Message::Resp(parsed_resp)) = Message::parse(&resp) else {
        panic!("a Resp expected");
    };
    let (at_initiator, seen) = exchange::open_resp(&i, &offer, &parsed_resp).unwrap();
    assert_eq!((at_initiator.0, seen), (master.0, epoch));

    let conf = exchange::conf(
        &master,
        parsed.session,
        parsed_resp.biscuit,
        &responder.wg.public(),
    );
    let ack = exchange::ack(&master, parsed.session, &initiator.wg.public());
    let (given, salt) = (bytes("cookie"), bytes("cookie salt"));
    let cookie_reply = cookie::seal(
        &given,
        &salt,
        &responder.wg.public(),
        parsed.session,
        parsed.mac1,
    );
    let mut with_mac2 = init.clone();
    exchange::set_mac2(&mut with_mac2, &given);
    let next = master.chain();

    let vector = Vector {
        name: name.to_owned(),
        inputs: Inputs {
            mode: if full { "full" } else { "light" }.to_owned(),
            pq: match pq {
                PqMode::Required => "required",
                PqMode::Preferred => "preferred",
            }
            .to_owned(),
            initiator: statics(&initiator),
            responder: statics(&responder),
            chain: chain.map(|chain| hex(&chain.0)),
            proposed_epoch: proposed,
            epoch,
            base,
            init_session: hex(&random.session),
            init_x25519: hex(&random.ephemeral),
            init_mlkem_seed: hex(&random.kem_seed),
            init_mlkem_m: full.then(|| hex(&random.static_m)),
            resp_x25519: hex(&answers.ephemeral),
            resp_mlkem_m_ephemeral: hex(&answers.ephemeral_m),
            resp_mlkem_m_static: full.then(|| hex(&answers.static_m)),
            biscuit_key: hex(biscuit_key.as_slice()),
            biscuit_number,
            cookie: hex(&given),
            cookie_salt: hex(&salt),
        },
        outputs: Outputs {
            init: hex(&init),
            transcript_after_init,
            init_mac2: hex(&with_mac2[with_mac2.len() - 16..]),
            resp: hex(&resp),
            conf: hex(&conf),
            ack: hex(&ack),
            cookie_reply: hex(&cookie_reply),
            init_fragments: fragments(&init).iter().map(|piece| hex(piece)).collect(),
            master: hex(&master.0),
            psk: hex(master.psk().expose()),
            psk_fingerprint: hex(&master.psk().fingerprint()),
            chain: hex(&next.0),
            handle_of_initiator: hex(&next.handle(&initiator.wg.public())),
            handle_of_responder: hex(&next.handle(&responder.wg.public())),
        },
    };
    (vector, master)
}

fn file() -> File {
    let (full, first) = vector("full", PqMode::Required, None, (1, 1));
    let (light, second) = vector("light", PqMode::Required, Some((first.chain(), 1)), (2, 2));
    let (lost_ack, _) = vector(
        "light after an epoch that the initiator missed",
        PqMode::Required,
        Some((second.chain(), 2)),
        (3, 4),
    );
    let (preferred, _) = vector("full, preferred", PqMode::Preferred, None, (5, 1 << 40));
    File {
        comment: "Byte strings are hex. SPEC.md explains every field; \
                  `light` continues the chain of `full`, and the third that of `light`."
            .to_owned(),
        suite: String::from_utf8(crate::schedule::label::PROTOCOL.to_vec()).unwrap(),
        vectors: vec![full, light, lost_ack, preferred],
    }
}

#[test]
fn vectors_are_those_of_the_file() {
    let made = file();
    if std::env::var_os("ZTNA_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(PATH, text).unwrap();
    }
    let kept: File = serde_json::from_str(&std::fs::read_to_string(PATH).unwrap()).unwrap();
    assert_eq!(kept.vectors.len(), 4);
    for (made, kept) in made.vectors.iter().zip(&kept.vectors) {
        assert_eq!(made, kept);
    }
    assert_eq!(made, kept);
}
