// Lays /openapi.json out for people.

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function kind(schema) {
  if (schema.oneOf) return schema.oneOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.type === "array") return "list of " + kind(schema.items);
  let text = schema.type || "any";
  if (schema.minimum !== undefined && schema.maximum !== undefined) text += ` ${schema.minimum} to ${schema.maximum}`;
  else if (schema.minimum !== undefined) text += ` from ${schema.minimum}`;
  return text;
}

function fields(schema, parent) {
  const box = element("div", undefined, parent);
  box.className = "scroll";
  const table = element("table", undefined, box);
  const head = element("tr", undefined, element("thead", undefined, table));
  for (const title of ["field", "kind", "what it is"]) element("th", title, head).scope = "col";
  const body = element("tbody", undefined, table);
  for (const [name, field] of Object.entries(schema.properties)) {
    const row = element("tr", undefined, body);
    element("code", name, element("td", undefined, row));
    element("td", kind(field), row);
    let words = field.description || "";
    if ((schema.required || []).includes(name)) words += " Required.";
    else if (field.default !== undefined) words += ` Default: ${JSON.stringify(field.default)}.`;
    element("td", words.trim(), row);
  }
}

function operation(path, method, what, parent) {
  element("h2", `${method.toUpperCase()} ${path}`, parent);
  element("p", what.description || what.summary, parent);
  const json = what.requestBody?.content["application/json"];
  if (!json) return;
  fields(json.schema, parent);
  if (json.example) {
    const body = JSON.stringify(json.example);
    const command = `curl ${location.origin}${path} -H "Content-Type: application/json" -d '${body}'`;
    element("code", command, element("pre", undefined, parent));
  }
}

async function show() {
  const about = document.getElementById("about");
  try {
    const api = await (await fetch("/openapi.json")).json();
    about.textContent = api.info.description;
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, what] of Object.entries(methods)) {
        operation(path, method, what, document.getElementById("operations"));
      }
    }
  } catch (error) {
    about.textContent = `/openapi.json could not be read: ${error.message}`;
  }
}

show();
