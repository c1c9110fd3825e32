use super::*;

#[test]
fn every_completed_field_exists() {
    let document = crate::http::openapi::described().expect("plain JSON");
    let mut schemas = document["components"]["schemas"].as_object().expect("schemas").clone();
    for (schema, field, _) in all() {
        assert!(property(&mut schemas, schema, field).is_some(), "{schema}.{field}");
    }
}

#[test]
fn no_value_is_an_object_of_unknown_content() {
    fn check(value: &Value, place: &str) {
        if let Some(object) = value.as_object() {
            let is_object = match object.get("type") {
                Some(Value::Array(kinds)) => kinds.contains(&json!("object")),
                kind => kind == Some(&json!("object")),
            };
            let is_described = ["properties", "additionalProperties", "$ref"]
                .iter()
                .any(|key| object.contains_key(*key));
            assert!(!is_object || is_described, "{place} is an object without fields");
            for (key, value) in object {
                check(value, &format!("{place}/{key}"));
            }
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            check(item, &format!("{place}/{index}"));
        }
    }
    let document = crate::http::openapi::described().expect("plain JSON");
    check(&document["components"]["schemas"], "");
    check(&document["paths"], "");
}
