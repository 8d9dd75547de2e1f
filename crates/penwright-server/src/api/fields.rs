//! The fields of a request, taken out one by one; what is left at the end is unknown.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::guard::Client;
use crate::app::App;
use crate::http::{ApiError, read};
use crate::models::Model;

/// What a JSON object has in its fields. A field that is null counts as left out.
pub(super) struct Fields {
    map: Map<String, Value>,
    /// Who asks.
    pub(super) client: u64,
    /// Bytes of the body.
    length: usize,
}

/// Bytes of a body from which on it takes a while to be made tokens.
const LONG: usize = 32 << 10;

impl Fields {
    /// Reads the body of a request.
    pub(super) async fn read(app: &App, request: Request) -> Result<Self, ApiError> {
        let client = request.extensions().get::<Client>().map_or(0, |client| client.0);
        let (parts, body): (_, Body) = request.into_parts();
        let (map, length) = read(&parts.headers, body, app.options.max_body, app.options.client_timeout).await?;
        Ok(Fields { map, client, length })
    }

    /// What `parse` makes of the fields. Long texts are cut into tokens beside the thread that speaks HTTP.
    pub(super) async fn parse<T: Send + 'static>(
        self,
        app: &Arc<App>,
        parse: impl FnOnce(Self, &App) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if self.length <= LONG {
            return parse(self, app);
        }
        let app = app.clone();
        let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be read; try again");
        tokio::task::spawn_blocking(move || parse(self, &app)).await.map_err(failed)?
    }

    #[cfg(test)]
    pub(super) fn of(map: Map<String, Value>) -> Self {
        Fields { map, client: 0, length: 0 }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// The model that is named; the only one, if there is no other, need not be.
    pub(super) fn model(&mut self, app: &App) -> Result<Arc<Model>, ApiError> {
        let name = self.string("model")?;
        if name.is_none() && app.engine.models().len() > 1 {
            return Err(ApiError::field("model", "several models are here; name one, as GET /v1/models does"));
        }
        app.model(name.as_deref())
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", &other)),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// A whole number; 3.0 is one.
    pub(super) fn whole(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let float = || value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..=9e15).contains(x)).map(|x| x as u64);
        match value.as_u64().or_else(float).filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(wrong(name, &format!("a whole number from {} to {}", range.start(), range.end()), &value)),
        }
    }

    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64().filter(|x| range.contains(x)) {
            Some(x) => Ok(Some(x as f32)),
            None => Err(wrong(name, &format!("a number from {} to {}", range.start(), range.end()), &value)),
        }
    }

    /// Strings, or a single one; at most `most`.
    pub(super) fn strings(&mut self, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let values = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
        };
        if values.len() > most {
            return Err(ApiError::field(
                name,
                format!("{name} has {} entries; at most {most} are allowed", values.len()),
            ));
        }
        let string = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(name, "a string or a list of strings", &other)),
        };
        values.into_iter().map(string).collect()
    }

    /// Fields that clients send and that make no difference here.
    pub(super) fn pass_over(&mut self, names: &[&str]) {
        names.iter().for_each(|name| drop(self.map.remove(*name)));
    }

    /// Refuses a field that asks for what there is not, unless it says `unless`.
    pub(super) fn refuse(&mut self, name: &str, unless: &[Value], instead: &str) -> Result<(), ApiError> {
        match self.take(name).filter(|value| !unless.contains(value)) {
            None => Ok(()),
            Some(_) => Err(ApiError::field(name, format!("{name} is not supported; {instead}")).code("unsupported")),
        }
    }

    /// All fields have been taken, or the others are unknown.
    pub(super) fn end(self) -> Result<(), ApiError> {
        let Some(name) = self.map.keys().next() else { return Ok(()) };
        let name: String = name.chars().take(60).collect();
        let message = format!("{name} is no field of this request; /docs shows what there is");
        Err(ApiError::field(name, message).code("unknown_field"))
    }
}

/// A field of another kind than it should be.
pub(super) fn wrong(name: &str, wanted: &str, value: &Value) -> ApiError {
    let shown: String = value.to_string().chars().take(60).collect();
    ApiError::field(name, format!("{name} must be {wanted}, not {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        let Value::Object(map) = value else { panic!("no object") };
        Fields::of(map)
    }

    #[test]
    fn each_kind_takes_what_it_is_and_refuses_the_rest() {
        let mut all = fields(json!({"a": 3, "b": 3.0, "c": 0.5, "d": null, "e": true, "f": "x", "g": ["y", "z"]}));
        assert_eq!(all.whole("a", 0..=9).unwrap(), Some(3));
        assert_eq!(all.whole("b", 0..=9).unwrap(), Some(3));
        assert_eq!(all.number("c", 0.0..=1.0).unwrap(), Some(0.5));
        assert_eq!(all.string("d").unwrap(), None);
        assert!(all.flag("e").unwrap());
        assert_eq!(all.strings("f", 4).unwrap(), ["x"]);
        assert_eq!(all.strings("g", 2).unwrap(), ["y", "z"]);
        all.end().unwrap();
        for bad in [json!(-1), json!(10), json!(1.5), json!("3"), json!([3]), json!(1e300)] {
            assert!(fields(json!({"a": bad})).whole("a", 0..=9).is_err(), "{bad}");
            assert!(fields(json!({"a": bad})).flag("a").is_err(), "{bad}");
        }
        for bad in [json!(-0.1), json!(2), json!("0.5"), json!({})] {
            assert!(fields(json!({"a": bad})).number("a", 0.0..=1.0).is_err(), "{bad}");
        }
        assert!(fields(json!({"a": ["x", 1]})).strings("a", 4).is_err());
        assert!(fields(json!({"a": ["x", "y"]})).strings("a", 1).is_err());
        assert!(fields(json!({"a": 1})).end().is_err());
        assert!(fields(json!({"a": "b"})).refuse("a", &[json!("b")], "").is_ok());
        assert!(fields(json!({"a": "c"})).refuse("a", &[json!("b")], "").is_err());
    }
}
