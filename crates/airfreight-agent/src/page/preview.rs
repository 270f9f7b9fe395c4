//! What a value looks like: its preview, as the codec wrote it beside the value, in tables.

use maud::{Markup, html};

use super::json::Json;
use super::words::grouped;

/// What a column's name says is secret, the codec has hidden; then its rows lack that cell.
const HIDDEN: &str = "***";

/// A preview in HTML; a sentence where there is none.
pub(super) fn preview(json: &Json) -> Markup {
    let Json::Members(members) = json else { return nothing() };
    if members.is_empty() {
        return nothing();
    }
    let is_frame = matches!((json.at("columns"), json.at("rows")), (Json::Members(_), Json::List(_)));
    let is_plain = |(name, part): &(&str, &Json)| {
        let has_table = is_frame && matches!(*name, "columns" | "rows");
        !has_table && !is_large(part) && (*name == "shape" || **part != Json::List(Vec::new()))
    };
    let plain: Vec<(&str, &Json)> = members.iter().map(|(name, part)| (name.as_str(), part)).filter(is_plain).collect();
    html! {
        @if !plain.is_empty() {
            dl.facts {
                @for (name, part) in plain {
                    div { dt { (label(name)) } dd { (if name == "shape" { shape(part) } else { inline(part) }) } }
                }
            }
        }
        @if is_frame { (frame(json)) }
        @for (name, part) in members {
            @match (name.as_str(), part) {
                ("columns" | "rows", _) if is_frame => {},
                ("shape", _) => {},
                (name, Json::Members(pairs)) => (pairs_table(name, pairs)),
                (name, Json::List(parts)) if is_table(parts) => (list_table(name, parts)),
                (name, Json::Text(text)) if is_long(text) => { h3 { (label(name)) } pre { (text) } },
                _ => {},
            }
        }
    }
}

fn nothing() -> Markup {
    html! { p.quiet { "There is no preview: the value's type is not one that is described, or previews are turned off." } }
}

/// Whether a part of a preview has a table, or a block of text, of its own.
fn is_large(part: &Json) -> bool {
    match part {
        Json::Members(_) => true,
        Json::List(parts) => is_table(parts),
        Json::Text(text) => is_long(text),
        _ => false,
    }
}

fn is_table(parts: &[Json]) -> bool {
    parts.len() > 8 || parts.iter().any(|part| !matches!(part, Json::Number(_)))
}

fn is_long(text: &str) -> bool {
    text.len() > 60 || text.contains('\n')
}

/// `more_columns` is for programs.
fn label(name: &str) -> String {
    name.replace('_', " ")
}

/// `5,000,000 × 2`.
fn shape(json: &Json) -> Markup {
    match json {
        Json::List(parts) if !parts.is_empty() => {
            let parts: Vec<String> = parts.iter().map(|part| grouped(&plain_text(part))).collect();
            html! { (parts.join(" × ")) }
        }
        Json::List(_) => html! { "a scalar" },
        other => inline(other),
    }
}

fn frame(json: &Json) -> Markup {
    let (Json::Members(columns), Json::List(rows)) = (json.at("columns"), json.at("rows")) else {
        return html! {};
    };
    let width = |row: &Json| if let Json::List(cells) = row { cells.len() } else { 0 };
    let first_width = rows.first().map_or(columns.len(), width);
    let is_told = |(_, kind): &&(String, Json)| kind.text() != Some(HIDDEN);
    let shown: Vec<_> =
        if first_width == columns.len() { columns.iter().collect() } else { columns.iter().filter(is_told).collect() };
    let fits = shown.len() == first_width && rows.iter().all(|row| width(row) == first_width);
    let shown: Vec<_> = if fits { shown } else { columns.iter().collect() };
    let total = match json.at("shape") {
        Json::List(parts) => parts.first().and_then(Json::integer),
        _ => None,
    };
    let hidden = columns.len() - shown.len();
    html! {
        div.scroll tabindex="0" role="region" aria-label="First rows" {
            table.values {
                caption {
                    @if fits && !rows.is_empty() { "The first rows" } @else { "The columns" }
                    @if let Some(total) = total { " of " (grouped(&total.to_string())) }
                    @if let Some(more) = json.at("more_columns").integer() { ", without " (more) " more columns" }
                    @if hidden > 0 { ", without " (hidden) " whose names say that they are secret" }
                }
                thead { tr { @for (name, kind) in &shown { th scope="col" { bdi { (name) } " " small { (inline(kind)) } } } } }
                @if fits {
                    tbody {
                        @for row in rows {
                            @if let Json::List(cells) = row { tr { @for cell in cells { (cell_of(cell)) } } }
                        }
                    }
                }
            }
        }
    }
}

fn cell_of(json: &Json) -> Markup {
    html! { td .number[matches!(json, Json::Number(_))] { (inline(json)) } }
}

fn pairs_table(name: &str, pairs: &[(String, Json)]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label(name)) {
            table.values {
                caption { (label(name)) }
                tbody { @for (key, value) in pairs { tr { th scope="row" { bdi { (key) } } (cell_of(value)) } } }
            }
        }
    }
}

fn list_table(name: &str, parts: &[Json]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label(name)) {
            table.values {
                caption { (label(name)) }
                tbody {
                    @for (index, part) in parts.iter().enumerate() {
                        tr { th scope="row" { (index) } (cell_of(part)) }
                    }
                }
            }
        }
    }
}

/// A value within a line.
fn inline(json: &Json) -> Markup {
    match json {
        Json::Null => html! { span.quiet { "null" } },
        Json::Text(text) => html! { bdi { (text) } },
        other => html! { (plain_text(other)) },
    }
}

fn plain_text(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(text) | Json::Text(text) => text.clone(),
        Json::List(parts) => parts.iter().map(plain_text).collect::<Vec<_>>().join(", "),
        Json::Members(members) => {
            members.iter().map(|(name, part)| format!("{name}: {}", plain_text(part))).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        preview(&Json::parse(text)).into_string()
    }

    #[test]
    fn a_frame_is_a_table_whose_cells_stand_below_their_names() {
        let text = shown(
            r#"{"shape": [5000000, 2], "columns": {"zone": "str", "at": "int64"}, "rows": [["x", 1], ["<b>", null]]}"#,
        );
        let zone = text.find("zone").unwrap();
        assert!(zone < text.find(">at<").unwrap(), "{text}");
        assert!(text.contains("5,000,000 × 2") && text.contains("&lt;b&gt;") && !text.contains("<b>"), "{text}");
        assert!(text.contains(r#"<td class="number">1</td>"#), "{text}");
    }

    #[test]
    fn a_hidden_column_moves_no_cell_below_another_name() {
        let text =
            shown(r#"{"shape": [1, 3], "columns": {"a": "int", "password": "***", "b": "int"}, "rows": [[1, 2]]}"#);
        assert!(!text.contains("password") && text.contains("without 1 whose names"), "{text}");
        // Where it can't be told which one is missing, no cell is shown.
        let text = shown(r#"{"shape": [1, 3], "columns": {"a": "int", "b": "int", "c": "int"}, "rows": [[1, 2]]}"#);
        assert!(!text.contains("<td"), "{text}");
    }

    #[test]
    fn everything_else_is_shown_too_and_nothing_as_markup() {
        let text = shown(
            r#"{"length": 3, "first": {"<i>": "</td><script>"}, "fields": {"x": [1, "y"]}, "name": "a & b", "text": "1\n2"}"#,
        );
        for part in ["&lt;i&gt;", "&lt;/td&gt;&lt;script&gt;", "1, y", "a &amp; b", "<pre>1\n2</pre>", "length"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        for empty in ["null", "{}", "3", "[]", "nonsense"] {
            assert!(shown(empty).contains("There is no preview"), "{empty}");
        }
        assert!(shown(r#"{"shape": [], "dtype": "float64", "first": []}"#).contains("a scalar"));
    }
}
