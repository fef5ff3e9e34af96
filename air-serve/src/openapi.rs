//! What the server answers, as an OpenAPI document: made of the routes and models there are when somebody asks.

use serde_json::{Map, Value, json};

use crate::v2::{Signature, TensorSpec};

/// What the document describes.
pub(crate) struct Described<'a> {
    /// Paths of routes with their deployments, and what their answers may be.
    pub routes: Vec<(&'a str, &'a str, &'static [&'static str])>,
    /// Models that the Open Inference Protocol reaches.
    pub models: Vec<(&'a str, &'a Signature)>,
    pub has_repository: bool,
    /// Whether OpenAI's API reaches any model.
    pub has_llms: bool,
}

/// The document.
pub(crate) fn document(described: &Described<'_>) -> Value {
    let mut paths = Map::new();
    for (path, deployment, types) in &described.routes {
        let summary = format!("Asks the deployment `{deployment}`");
        let body = json!({ "required": true, "content": json_of(&json!({})) });
        let mut post = call(&summary, &body, &json!({}));
        let types: Map<String, Value> = types.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect();
        post["responses"]["200"]["content"] = Value::Object(types);
        paths.insert((*path).to_owned(), json!({ "post": post }));
    }
    for (path, summary, kind) in [
        ("/-/healthz", "Whether the process lives", "text/plain"),
        ("/-/routes", "Paths and their deployments", "application/json"),
        ("/-/status", "Applications, deployments and replicas", "application/json"),
        ("/health/live", "Whether the process lives", "text/plain"),
        ("/health/ready", "Whether it should get requests", "text/plain"),
        ("/metrics", "Prometheus text", "text/plain"),
        ("/openapi.json", "This document", "application/json"),
        ("/v2", "Name, version and extensions", "application/json"),
        ("/v2/health/live", "Whether the process lives", "application/json"),
        ("/v2/health/ready", "Whether it should get requests", "application/json"),
        ("/v2/models", "The names of all models", "application/json"),
    ] {
        paths.insert(path.to_owned(), json!({ "get": look(summary, kind) }));
    }
    for (name, signature) in &described.models {
        let escaped = escaped(name);
        let at = |rest: &str| format!("/v2/models/{escaped}{rest}");
        let summary = |what: &str| format!("{what} `{name}`");
        paths.insert(
            at(""),
            json!({ "get": look(&summary("What it takes and gives, the model"), "application/json") }),
        );
        paths.insert(
            at("/ready"),
            json!({ "get": look(&summary("Whether it can answer, the model"), "application/json") }),
        );
        let body = json!({ "required": true, "content": json_of(&request(signature)) });
        paths.insert(at("/infer"), json!({ "post": call(&summary("Asks the model"), &body, &json!({ "$ref": "#/components/schemas/Answer" })) }));
    }
    if described.has_repository {
        let model =
            json!([{ "name": "model", "in": "path", "required": true, "schema": { "type": "string" } }]);
        let index = json!({ "content": json_of(&json!({ "type": "object", "properties": { "ready": { "type": "boolean" } } })) });
        paths.insert(
            "/v2/repository/index".to_owned(),
            json!({ "post": call("What is in the model repository", &index, &json!({ "type": "array" })) }),
        );
        for (verb, summary) in [("load", "Loads a model, or loads it anew"), ("unload", "Ends a model")] {
            let mut change =
                call(summary, &json!({ "content": json_of(&json!({})) }), &json!({ "type": "object" }));
            change["parameters"] = model.clone();
            paths.insert(format!("/v2/repository/models/{{model}}/{verb}"), json!({ "post": change }));
        }
    }
    if described.has_llms {
        let about = "As OpenAI's API has it";
        paths.insert(
            "/v1/models".to_owned(),
            json!({ "get": look("The language models", "application/json") }),
        );
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
            let body = json!({ "required": true, "content": json_of(&json!({ "type": "object", "required": ["model"] })) });
            paths
                .insert(path.to_owned(), json!({ "post": call(about, &body, &json!({ "type": "object" })) }));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "air-serve", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn json_of(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// What may come instead of an answer.
fn problems(statuses: &[(&str, &str)]) -> Map<String, Value> {
    let problem = json_of(&json!({ "$ref": "#/components/schemas/Problem" }));
    let problem = |what: &str| json!({ "description": what, "content": problem });
    statuses.iter().map(|(status, what)| ((*status).to_owned(), problem(what))).collect()
}

fn look(summary: &str, kind: &str) -> Value {
    let mut responses = problems(&[("404", "There is no such model any more"), ("503", "Not now")]);
    responses.insert("200".to_owned(), json!({ "description": "Here it is", "content": { kind: {} } }));
    json!({ "summary": summary, "responses": responses })
}

fn call(summary: &str, body: &Value, answer: &Value) -> Value {
    let mut responses = problems(&[
        ("400", "The request cannot be read"),
        ("404", "There is no such model"),
        ("408", "The body came too slowly"),
        ("413", "The body is too large"),
        ("415", "The content type is another"),
        ("422", "The request does not fit the model"),
        ("500", "The model failed; the message names the replica"),
        ("503", "Too many requests wait, or the server ends; see Retry-After"),
        ("504", "No answer within the time limit"),
    ]);
    responses.insert("200".to_owned(), json!({ "description": "The answer", "content": json_of(answer) }));
    json!({ "summary": summary, "requestBody": body, "responses": responses })
}

/// A request to a model of that signature.
fn request(signature: &Signature) -> Value {
    let input = |spec: &TensorSpec| {
        let dim = |dim: &Option<usize>| match dim {
            Some(dim) => json!({ "const": dim }),
            None => json!({ "type": "integer", "minimum": 0 }),
        };
        let dims: Vec<Value> = spec.shape.iter().map(dim).collect();
        json!({
            "type": "object",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": { "const": spec.name },
                "datatype": { "const": spec.datatype.name() },
                "shape": { "type": "array", "prefixItems": dims, "minItems": dims.len(), "maxItems": dims.len() },
                "data": { "type": "array" },
                "parameters": { "type": "object" },
            },
        })
    };
    let inputs: Vec<Value> = signature.inputs().iter().map(input).collect();
    let names: Vec<&str> = signature.outputs().iter().map(|output| output.name.as_str()).collect();
    json!({
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": { "type": "string" },
            "parameters": { "type": "object" },
            "inputs": { "type": "array", "items": { "anyOf": inputs }, "minItems": inputs.len(), "maxItems": inputs.len() },
            "outputs": {
                "type": "array",
                "maxItems": names.len(),
                "items": { "type": "object", "required": ["name"], "properties": { "name": { "enum": names } } },
            },
        },
    })
}

fn schemas() -> Value {
    json!({
        "Problem": { "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } } },
        "Answer": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": { "type": "string" },
                "model_version": { "type": "string" },
                "id": { "type": "string" },
                "outputs": { "type": "array", "items": { "$ref": "#/components/schemas/Tensor" } },
            },
        },
        "Tensor": {
            "type": "object",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": { "type": "string" },
                "datatype": { "type": "string" },
                "shape": { "type": "array", "items": { "type": "integer" } },
                "data": { "type": "array" },
                "parameters": { "type": "object" },
            },
        },
    })
}

/// A name as a segment of a path.
fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%5F", "_")
        .replace("%2D", "-")
        .replace("%2E", ".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::DataType;

    #[test]
    fn routes_and_models_are_described() {
        let signature =
            Signature::new().input("x", DataType::Fp32, [-1, 4]).output("y", DataType::Int64, [-1]);
        let document = document(&Described {
            routes: vec![("/iris", "iris", &["application/json"])],
            has_llms: true,
            models: vec![("a model/b", &signature)],
            has_repository: true,
        });
        let paths = &document["paths"];
        assert_eq!(paths["/iris"]["post"]["summary"], "Asks the deployment `iris`");
        let infer = &paths["/v2/models/a%20model%2Fb/infer"]["post"];
        let input = &infer["requestBody"]["content"]["application/json"]["schema"]["properties"]["inputs"]["items"]
            ["anyOf"][0];
        assert_eq!(input["properties"]["name"]["const"], "x");
        assert_eq!(
            input["properties"]["shape"]["prefixItems"],
            json!([{ "type": "integer", "minimum": 0 }, { "const": 4 }])
        );
        assert_eq!(paths["/v2/repository/models/{model}/load"]["post"]["parameters"][0]["name"], "model");
    }
}
