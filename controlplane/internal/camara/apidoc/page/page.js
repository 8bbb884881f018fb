// Shows an OpenAPI document and sends requests of it. No library, nothing loaded
// from elsewhere.
"use strict";

const settings = document.body.dataset;
const bearer = document.getElementById("bearer");
const said = document.getElementById("said");

// make builds an element; text is set as text, never as markup.
function make(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) {
    if (k === "text") e.textContent = v;
    else if (v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// inline fills an element with text in which `code` becomes code.
function inline(out, text) {
  (text || "").trim().split("`").forEach((part, i) => out.append(i % 2 ? make("code", { text: part }) : part));
  return out;
}

// paragraphs splits a description at blank lines.
function paragraphs(text) {
  return (text || "").trim().split(/\n\s*\n/).filter(Boolean).map((p) => inline(make("p"), p));
}

let doc;

function resolve(node) {
  while (node && node.$ref) {
    node = node.$ref.slice(2).split("/").reduce((n, k) => n && n[k.replace(/~1/g, "/").replace(/~0/g, "~")], doc);
  }
  return node || {};
}

function limits(s) {
  const words = [];
  if (s.format) words.push(s.format);
  if (s.enum) words.push("one of " + s.enum.join(", "));
  if (s.pattern) words.push("matches " + s.pattern);
  if (s.minLength) words.push("at least " + s.minLength + " characters");
  if (s.maxLength) words.push("at most " + s.maxLength + " characters");
  if (s.minimum !== undefined) words.push("at least " + s.minimum);
  if (s.maximum !== undefined) words.push("at most " + s.maximum);
  if (s.minItems) words.push("at least " + s.minItems + " items");
  if (s.maxItems) words.push("at most " + s.maxItems + " items");
  if (s.deprecated) words.push("deprecated");
  return words.join(", ");
}

function showSchema(schema, seen = []) {
  const s = resolve(schema);
  const list = make("ul", { class: "schema" });
  if (seen.includes(s)) return list;
  const inner = [...seen, s];
  for (const part of s.allOf || []) list.append(...showSchema(part, inner).children);
  for (const [name, p] of Object.entries(s.properties || {})) {
    const ps = resolve(p);
    const item = make("li", {}, make("code", { text: name }), " ");
    if ((s.required || []).includes(name)) item.append(make("span", { class: "must", text: "required " }));
    item.append(inline(make("span", { class: "quiet" }), [ps.type, limits(ps)].filter(Boolean).join(", ") + (ps.description ? ". " + ps.description : "")));
    if (ps.properties || ps.allOf || ps.oneOf) item.append(showSchema(p, inner));
    if (ps.type === "array" && ps.items) item.append(showSchema(ps.items, inner));
    list.append(item);
  }
  for (const choice of s.oneOf || []) list.append(make("li", { text: "either" }, showSchema(choice, inner)));
  if (s.type === "array" && s.items) list.append(...showSchema(s.items, inner).children);
  return list;
}

function mediaOf(content) {
  return Object.values(content || {})[0];
}

// operation builds one operation with its form.
function operation(path, method, op, shared) {
  const parameters = [...(shared || []), ...(op.parameters || [])].map(resolve);
  const body = resolve(op.requestBody);
  const media = mediaOf(body.content);
  const card = make("details", { class: "operation", id: op.operationId },
    make("summary", {}, make("span", { class: "method " + method, text: method }), make("code", { text: path }), " ", op.summary || ""),
    ...paragraphs(op.description));
  const scopes = (op.security || []).flatMap((s) => Object.values(s).flat());
  if (scopes.length) {
    card.append(make("h3", { text: scopes.length > 1 ? "Scopes, one for each kind" : "Scope" }));
    for (const s of scopes) card.append(make("div", {}, make("code", { text: s })));
  }

  const form = make("form");
  form.append(make("h3", { text: "Request" }));
  const inputs = parameters.map((p) => {
    const id = op.operationId + "-" + p.name;
    const input = make("input", { id, placeholder: p.description || "", autocomplete: "off", spellcheck: "false" });
    form.append(make("div", { class: "row" },
      make("label", { for: id }, make("code", { text: p.name }), " ", make("span", { class: p.required ? "must" : "quiet", text: p.required ? "required" : p.in })), input));
    return [p, input];
  });
  let area;
  if (media) {
    const example = media.example || resolve(media.schema).example || {};
    area = make("textarea", { "aria-label": "Body", spellcheck: "false" });
    area.value = JSON.stringify(example, null, 2);
    form.append(area, make("details", {}, make("summary", { text: "Properties" }), showSchema(media.schema)));
  }
  const send = make("button", { text: "Send" });
  const result = make("div", { "aria-live": "polite" });
  form.append(make("div", { class: "row" }, send), result);
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    send.disabled = true;
    await submit(path, method, inputs, area, result);
    send.disabled = false;
  });
  card.append(form, make("h3", { text: "Answers" }));
  for (const [status, r] of Object.entries(op.responses)) {
    const answer = resolve(r);
    const schema = mediaOf(answer.content);
    const line = make("details", {}, make("summary", {}, make("code", { text: status }), " ", inline(make("span"), answer.description)));
    if (schema) line.append(showSchema(schema.schema));
    card.append(line);
  }
  return card;
}

async function submit(path, method, inputs, area, result) {
  let target = doc.servers[0].url + path;
  const query = new URLSearchParams();
  const headers = {};
  for (const [p, input] of inputs) {
    const v = input.value.trim();
    if (p.in === "path") target = target.replace("{" + p.name + "}", encodeURIComponent(v));
    else if (v === "") continue;
    else if (p.in === "query") query.set(p.name, v);
    else if (p.in === "header") headers[p.name] = v;
  }
  if ([...query].length) target += "?" + query;
  if (bearer.value.trim()) headers.Authorization = "Bearer " + bearer.value.trim();
  const options = { method, headers, redirect: "error" };
  if (area && area.value.trim()) {
    headers["Content-Type"] = "application/json";
    options.body = area.value;
  }
  result.replaceChildren();
  try {
    const started = performance.now();
    const r = await fetch(target, options);
    const text = await r.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
    const lines = [method + " " + target + " → " + r.status + " " + r.statusText + " in " + Math.round(performance.now() - started) + " ms"];
    for (const [k, v] of r.headers) lines.push(k + ": " + v);
    result.append(make("pre", { text: lines.join("\n") + (shown ? "\n\n" + shown : "") }));
  } catch (err) {
    result.append(make("pre", { text: "The request could not be sent: " + err.message }));
  }
}

// Log in: authorization code with PKCE (RFC 7636).
function random() {
  return encode(crypto.getRandomValues(new Uint8Array(32)));
}

function encode(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

async function metadata() {
  const r = await fetch(settings.metadata);
  if (!r.ok) throw new Error("the authorization server's metadata cannot be read: " + r.status);
  return r.json();
}

// The one address that the client has to be registered with.
function callback() {
  return location.origin + "/openapi/callback";
}

async function login() {
  const server = await metadata();
  const verifier = random(), state = random();
  sessionStorage.setItem("openapi.login", JSON.stringify({ verifier, state, back: location.pathname }));
  const scopes = new Set();
  for (const item of Object.values(doc.paths)) {
    for (const op of Object.values(item)) {
      for (const s of op.security || []) Object.values(s).flat().forEach((x) => scopes.add(x));
    }
  }
  const to = new URL(server.authorization_endpoint);
  to.search = new URLSearchParams({
    response_type: "code", client_id: settings.client, redirect_uri: callback(), scope: [...scopes].join(" "), state,
    code_challenge: encode(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))), code_challenge_method: "S256",
  });
  location.assign(to);
}

function begunLogin() {
  return JSON.parse(sessionStorage.getItem("openapi.login") || "null");
}

async function finishLogin() {
  const answer = new URLSearchParams(location.search);
  const begun = begunLogin();
  if (!begun || answer.get("state") !== begun.state) return;
  sessionStorage.removeItem("openapi.login");
  history.replaceState(null, "", location.pathname);
  if (!answer.get("code")) throw new Error(answer.get("error_description") || answer.get("error") || "no code");
  const server = await metadata();
  const r = await fetch(server.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", code: answer.get("code"), redirect_uri: callback(), client_id: settings.client, code_verifier: begun.verifier,
    }),
  });
  const token = await r.json();
  if (!r.ok) throw new Error(token.error_description || token.error || String(r.status));
  bearer.value = token.access_token;
  keep();
  said.textContent = "Logged in. Kept in this tab only.";
}

function keep() {
  sessionStorage.setItem("openapi.token", bearer.value.trim());
}

async function start() {
  bearer.value = sessionStorage.getItem("openapi.token") || "";
  bearer.addEventListener("change", keep);
  const r = await fetch(settings.document);
  doc = await r.json();
  document.getElementById("about").append(...paragraphs(doc.info.description));
  const all = document.getElementById("operations");
  all.replaceChildren(make("h2", { text: "Operations" }));
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const method of ["get", "post", "put", "delete"]) {
      if (item[method]) all.append(operation(path, method.toUpperCase(), item[method], item.parameters));
    }
  }
  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  if (wanted) wanted.open = true;
  if (settings.client && settings.metadata) {
    const button = document.getElementById("login");
    button.hidden = false;
    button.addEventListener("click", () => login().catch(complain));
    await finishLogin();
  }
}

function complain(err) {
  said.textContent = "This did not work: " + err.message;
}

if (settings.document) {
  start().catch(complain);
} else {
  // The authorization server sent the reader here; go on where the login began.
  const begun = begunLogin();
  location.replace((begun ? begun.back : "/openapi/") + location.search);
}
