// The API's paths, from its own description.
const schema = await (await fetch("/api/openapi.json")).json();
const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
for (const [path, methods] of Object.entries(schema.paths)) for (const [method, one] of Object.entries(methods)) {
  const section = document.createElement("section");
  const names = (one.parameters ?? []).filter((each) => each.in === "query").map((each) => each.name);
  section.append(make("b", method.toUpperCase()), make("code", path + (names.length ? `?${names.map((n) => `${n}=`).join("&")}` : "")), make("p", one.description ?? ""));
  document.getElementById("paths").append(section);
}
