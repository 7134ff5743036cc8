//! `ztna static-peer`

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::FalseyValueParser;
use ztna_proto::static_peers::{CreateStaticPeer, RotateStaticPeer, StaticPeerConfig};
use ztna_proto::{MachineId, OrgId, WgPublicKey};

use super::session::{Signed, enter};
use super::{Json, ui};
use crate::control::Api;

/// Lets a device join that has only the WireGuard app, through a gateway machine
///
/// Prints what the device is configured with: a QR code and the file on a terminal, else the file alone.
/// It is shown this once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct StaticPeerArgs {
    /// The device's name in the org
    name: String,
    /// Name of the gateway that carries it
    #[arg(long, env = "ZTNA_GATEWAY", required_unless_present = "new_keys")]
    gateway: Option<String>,
    /// Give a device that is there already new keys; the old ones end
    #[arg(long, env = "ZTNA_NEW_KEYS", value_parser = FalseyValueParser::new())]
    new_keys: bool,
    /// The device's own WireGuard key, so that its private key never leaves it
    #[arg(long, env = "ZTNA_PUBLIC_KEY", value_name = "KEY")]
    public_key: Option<WgPublicKey>,
    /// Have a preshared key too, against quantum computers of later
    #[arg(long, env = "ZTNA_PRESHARED_KEY", value_parser = FalseyValueParser::new())]
    preshared_key: bool,
    /// Tags of the policy, as in tag:phones; with tags it is nobody's
    #[arg(
        long = "tag",
        env = "ZTNA_TAGS",
        value_name = "TAG",
        value_delimiter = ',',
        conflicts_with = "new_keys"
    )]
    tags: Vec<String>,
    /// The org, if you are a member of several: its name, label or id
    #[arg(long, env = "ZTNA_ORG")]
    org: Option<String>,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna static-peer phone --gateway gate --preshared-key        scan the code with the WireGuard app
  ztna static-peer router --gateway gate > wg0.conf            for wg-quick
  ztna static-peer phone --new-keys                            it was lost, or copied";

pub async fn run(args: StaticPeerArgs) -> anyhow::Result<ExitCode> {
    let Signed { api, session, org } = enter(args.org.as_deref()).await?;
    let caller = Caller {
        api: &api,
        token: &session.access_token,
        org,
    };
    let made = match args.new_keys {
        true => caller.rotate(&args).await?,
        false => caller.create(&args).await?,
    };
    if args.json.wanted {
        ui::json(&made)?;
        return Ok(ExitCode::SUCCESS);
    }
    if ui::on_terminal()
        && let Some(code) = &made.qr_text
    {
        ui::line(format_args!("{}\n", code.expose()))?;
    }
    ui::line(made.config.expose().trim_end())?;
    ui::note(format_args!("\n{}", made.notice));
    Ok(ExitCode::SUCCESS)
}

struct Caller<'a> {
    api: &'a Api,
    token: &'a str,
    org: OrgId,
}

impl Caller<'_> {
    async fn gateway(&self, name: Option<&str>) -> anyhow::Result<Option<MachineId>> {
        let Some(name) = name else { return Ok(None) };
        let gateways = self.api.gateways(self.token, self.org).await?;
        match gateways.iter().find(|gateway| gateway.name == name) {
            Some(gateway) => Ok(Some(gateway.machine)),
            None => {
                let names: Vec<&str> = gateways.iter().map(|it| it.name.as_str()).collect();
                bail!(
                    "{name} is no gateway of the org; there are: {}",
                    names.join(", ")
                )
            }
        }
    }

    async fn create(&self, args: &StaticPeerArgs) -> anyhow::Result<StaticPeerConfig> {
        let gateway = self.gateway(args.gateway.as_deref()).await?;
        let request = CreateStaticPeer {
            name: args.name.clone(),
            gateway: gateway.context("name a gateway with --gateway")?,
            public_key: args.public_key,
            preshared_key: args.preshared_key,
            tags: args.tags.clone(),
            user: None,
        };
        Ok(self
            .api
            .create_static_peer(self.token, self.org, &request)
            .await?)
    }

    async fn rotate(&self, args: &StaticPeerArgs) -> anyhow::Result<StaticPeerConfig> {
        let peers = self.api.static_peers(self.token, self.org).await?;
        let peer = peers.iter().find(|peer| peer.machine.name == args.name);
        let peer = peer.with_context(|| {
            format!(
                "the org has no static peer {} that is yours; make it without --new-keys",
                args.name
            )
        })?;
        let request = RotateStaticPeer {
            gateway: self.gateway(args.gateway.as_deref()).await?,
            public_key: args.public_key,
            preshared_key: args.preshared_key,
        };
        Ok(self
            .api
            .rotate_static_peer(self.token, self.org, peer.machine.id, &request)
            .await?)
    }
}
