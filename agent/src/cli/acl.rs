//! `ztna acl`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use ztna_proto::filter::Action;
use ztna_proto::policy::{EvaluateRequest, Evaluation, RuleVerdict};

use super::session::{Signed, enter};
use super::{Json, ui};

/// Asks the org's policy
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct AclArgs {
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(Subcommand)]
enum AclCommand {
    Test(TestArgs),
}

/// Tells whether one machine may open something towards another, and why; the exit status is 0 if
/// it may, and 1 if not
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct TestArgs {
    /// Who opens: name, id or tailnet address of a machine
    #[arg(long, value_name = "MACHINE")]
    src: String,
    /// Towards whom: the same, or an address behind a route
    #[arg(long, value_name = "MACHINE")]
    dst: String,
    /// The destination port
    #[arg(long)]
    port: Option<u16>,
    /// tcp, udp, icmp, sctp, another name or a number
    #[arg(long, default_value = "tcp")]
    proto: String,
    /// Ask for another time than now (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The org, if you are a member of several: its name, label or id
    #[arg(long, env = "ZTNA_ORG")]
    org: Option<String>,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna acl test --src laptop --dst db-1 --port 5432
  ztna acl test --src laptop --dst 10.1.7.9 --port 53 --proto udp
  ztna acl test --src laptop --dst db-1 --proto icmp --json | jq .reason

Exit status: 0 allowed, 1 denied, 3 it could not be asked.";

pub async fn run(args: AclArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        AclCommand::Test(args) => test(args).await,
    }
}

/// By which scripts tell a question that was not answered from the answer no.
const NOT_ASKED: u8 = 3;

async fn test(args: TestArgs) -> anyhow::Result<ExitCode> {
    ask(args).await.or_else(|error| {
        ui::error(&error);
        Ok(ExitCode::from(NOT_ASKED))
    })
}

async fn ask(args: TestArgs) -> anyhow::Result<ExitCode> {
    let Signed { api, session, org } = enter(args.org.as_deref()).await?;
    let request = EvaluateRequest {
        src: args.src,
        dst: args.dst,
        protocol: Some(args.proto),
        port: args.port,
        at: args.at,
    };
    let evaluation = api.evaluate(&session.access_token, org, &request).await?;
    if args.json.wanted {
        ui::json(&evaluation)?;
    } else {
        show(&evaluation)?;
    }
    Ok(match evaluation.verdict.allowed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn show(evaluation: &Evaluation) -> anyhow::Result<()> {
    let verdict = &evaluation.verdict;
    let (style, word) = match verdict.allowed {
        true => (ui::GOOD, "allowed"),
        false => (ui::BAD, "denied"),
    };
    ui::line(format_args!(
        "{} to {}: {style}{word}{style:#}; {}",
        evaluation.src, evaluation.dst, verdict.reason
    ))?;
    for rule in verdict.matched.iter().chain(&verdict.closest) {
        explain(rule)?;
    }
    Ok(())
}

fn explain(rule: &RuleVerdict) -> anyhow::Result<()> {
    let action = match rule.action {
        Action::Allow => "accept",
        Action::Deny => "deny",
    };
    let name = rule.name.clone().unwrap_or_else(|| rule.rule.to_string());
    ui::line("")?;
    ui::line(format_args!("{action} {name}, {}", rule.at))?;
    for condition in &rule.conditions {
        let (style, mark) = match condition.holds {
            true => (ui::GOOD, "yes"),
            false => (ui::BAD, "no "),
        };
        ui::line(format_args!(
            "  {style}{mark}{style:#}  {:<11} {}",
            condition.field, condition.detail
        ))?;
    }
    Ok(())
}
