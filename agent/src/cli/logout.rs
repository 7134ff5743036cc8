//! `ztna logout`

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use clap::builder::FalseyValueParser;
use ztna_local::{Client, Request, ThisMachine};

use super::session::{Store, renew};
use super::{ask_status, ui};

/// Ends your sign-in; the machine stays registered and the tunnel up, unless --forget is given
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LogoutArgs {
    /// Also take the tunnel down, delete the machine's keys and registration here, and, if you
    /// are signed in and may, delete it from the org
    #[arg(long, env = "ZTNA_FORGET", value_parser = FalseyValueParser::new())]
    forget: bool,
}

const EXAMPLES: &str = "Examples:
  ztna logout
  sudo ztna logout --forget                  before this machine is given away or moved";

pub async fn run(socket: &Path, args: LogoutArgs) -> anyhow::Result<ExitCode> {
    let store = Store::of_caller()?;
    let kept = store.load()?;
    if kept.is_none() && !args.forget {
        ui::note("you are not signed in");
        return Ok(ExitCode::SUCCESS);
    }
    let forgotten = match args.forget {
        true => forget(socket).await?,
        false => None,
    };
    let Some(kept) = kept else {
        if let Some(machine) = forgotten {
            still_listed(&machine, "you are not signed in");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let ended = async {
        let (api, session) = renew(&store, kept).await?;
        if let Some(machine) = &forgotten
            && let Err(error) = api
                .delete_machine(&session.access_token, machine.org, machine.id)
                .await
        {
            still_listed(machine, &error.to_string());
        } else if let Some(machine) = &forgotten {
            ui::note(format_args!(
                "{} is forgotten here and deleted from {}",
                machine.dns_name, machine.org_name
            ));
        }
        api.logout(session.refresh_token.clone()).await?;
        anyhow::Ok(())
    }
    .await;
    store.remove()?;
    if let Err(error) = ended {
        ui::note(format_args!(
            "{0}warning{0:#}: the sign-in is deleted here, but was not ended at the control \
             plane: {error:#}",
            ui::WARN
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the daemon forget its registration, and tells which it was.
async fn forget(socket: &Path) -> anyhow::Result<Option<ThisMachine>> {
    let status = ask_status(socket).await?;
    Client::connect(socket).await?.ask(Request::Forget).await?;
    Ok(status.this)
}

fn still_listed(machine: &ThisMachine, why: &str) {
    ui::note(format_args!(
        "{} is forgotten here; {} lists it until an admin deletes it ({why})",
        machine.dns_name, machine.org_name
    ));
}
