//! The API's document as it is served: what every call has in common is said here, once.

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

/// What holds the error of every refusal.
const REFUSAL: &str = "#/components/schemas/Refusal";

/// Completes the document that the routes make: refusals come in the envelope, and any call may be refused.
pub(crate) fn complete(document: &OpenApi) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(document)?;
    document["components"]["schemas"]["Refusal"] = json!({
        "type": "object",
        "description": "The envelope of a call that was refused.",
        "required": ["success", "data", "error"],
        "properties": {
            "success": {"type": "boolean", "enum": [false]},
            "data": {"type": "null"},
            "error": {"$ref": "#/components/schemas/ErrorBody"},
        },
    });
    let Some(paths) = document["paths"].as_object_mut() else {
        return Ok(document);
    };
    for (path, methods) in paths {
        let operations = methods.as_object_mut().into_iter().flatten();
        for (method, operation) in operations {
            let page = operation["tags"] == json!(["pages"]);
            operation["operationId"] = operation_id(method, path, page).into();
            let Some(responses) = operation["responses"].as_object_mut() else {
                continue;
            };
            for response in responses.values_mut() {
                let schema = response.pointer_mut("/content/application~1json/schema");
                if let Some(schema) = schema
                    && schema["$ref"] == "#/components/schemas/ErrorBody"
                {
                    *schema = json!({ "$ref": REFUSAL });
                }
            }
            if path.starts_with("/api/") {
                responses.entry("default").or_insert_with(|| {
                    json!({
                        "description": "Refused; `error.code` says why, `error.message` what to do.",
                        "content": {"application/json": {"schema": {"$ref": REFUSAL}}},
                    })
                });
            }
        }
    }
    Ok(document)
}

/// The name of a call in generated clients: `get_orgs_machines_by_machine` is `GET /api/orgs/{org}/machines/{machine}`.
/// Handlers have names of their own, which are shorter and the same in several capabilities. Some pages have the path of a call
/// without its `/api`.
fn operation_id(method: &str, path: &str, page: bool) -> String {
    let mut words = vec![method.to_owned()];
    if page {
        words.push("page".to_owned());
    }
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    for (index, segment) in segments.iter().enumerate() {
        let parameter = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        match parameter {
            // Almost every call is about an org.
            Some("org") if index + 1 < segments.len() => {}
            Some(name) => words.push(format!("by_{name}")),
            None if index == 0 && *segment == "api" => {}
            None => words.push(segment.replace(|c: char| !c.is_ascii_alphanumeric(), "_")),
        }
    }
    if segments.is_empty() {
        words.push("front".to_owned());
    }
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::operation_id;

    #[test]
    fn calls_are_named_by_method_and_path() {
        for (method, path, id) in [
            ("get", "/", "get_page_front"),
            (
                "get",
                "/sign-in/{provider}/callback",
                "get_page_sign_in_by_provider_callback",
            ),
            ("post", "/api/orgs", "post_orgs"),
            ("delete", "/api/orgs/{org}", "delete_orgs_by_org"),
            ("get", "/api/orgs/{org}/machines", "get_orgs_machines"),
            (
                "put",
                "/api/orgs/{org}/machines/{machine}/routes",
                "put_orgs_machines_by_machine_routes",
            ),
        ] {
            let page = !path.starts_with("/api/");
            assert_eq!(operation_id(method, path, page), id);
        }
    }
}
