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
        for (_, operation) in operations {
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
