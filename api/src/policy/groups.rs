//! `/api/orgs/{org}/policy/groups`: who is in which group.

use std::collections::BTreeMap;

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::{Document, People};
use ztna_proto::error::{Envelope, ErrorBody};
use ztna_proto::ids::OrgId;
use ztna_proto::policy::{GroupPerson, PolicyGroup};

use super::{parse, people, read};
use crate::app::State;
use crate::http::{Answer, Path, User, ok};
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The groups that the policy in force declares, and who is in them: by the document, or by the identity provider.
#[utoipa::path(get, path = "/api/orgs/{org}/policy/groups", tag = "policy", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<PolicyGroup>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<PolicyGroup>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let document = parse(&read(&tx, org, None).await?.text)?;
    ok(groups(&document, &people(&tx, org).await?))
}

fn groups(document: &Document, members: &People) -> Vec<PolicyGroup> {
    let groups = document.groups().map(|(name, written)| {
        let named = written.iter().map(|email| {
            let person = GroupPerson {
                email: email.clone(),
                member: members.contains_key(email),
                provider: false,
            };
            (email.as_str(), person)
        });
        let mut people: BTreeMap<&str, GroupPerson> = named.collect();
        for (email, _) in members
            .iter()
            .filter(|(_, member)| member.groups.contains(name))
        {
            let person = people.entry(email).or_insert_with(|| GroupPerson {
                email: email.clone(),
                member: true,
                provider: true,
            });
            person.provider = true;
        }
        PolicyGroup {
            name: format!("group:{name}"),
            people: people.into_values().collect(),
        }
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use ztna_policy::Person;
    use ztna_proto::api::Role;

    use super::*;

    #[test]
    fn people_are_in_groups_by_the_document_and_by_the_provider() {
        let text =
            r#"{"groups": {"group:eng": ["ann@x.example", "gone@x.example"], "group:ops": []}}"#;
        let person = |groups: &[&str]| Person {
            role: Role::Member,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        };
        // What the document does not declare is none.
        let members = People::from([
            ("ann@x.example".to_owned(), person(&["eng", "elsewhere"])),
            ("ben@x.example".to_owned(), person(&["eng"])),
            ("cy@x.example".to_owned(), person(&[])),
        ]);
        let found = groups(&Document::parse(text).unwrap(), &members);
        let told: Vec<_> = found
            .iter()
            .flat_map(|group| &group.people)
            .map(|one| (one.email.as_str(), one.member, one.provider))
            .collect();
        let names: Vec<_> = found.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["group:eng", "group:ops"]);
        assert_eq!(
            told,
            [
                ("ann@x.example", true, true),
                ("ben@x.example", true, true),
                ("gone@x.example", false, false),
            ]
        );
    }
}
