// Shows the OpenAPI document beside this page. Whatever the document says is put in as text, never as HTML.
"use strict";

const METHODS = ["get", "put", "post", "patch", "delete", "head", "options", "trace"];
/** What bounds a value, in the order in which it is shown. */
const LIMITS = [
    "format", "minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minItems", "maxItems", "minProperties", "maxProperties", "const", "default",
];

/** An element. Children are elements, or texts. */
function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
    return made;
}

/** A text whose parts between backticks are code. */
function line(text) {
    return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

/** A text as paragraphs. */
function prose(text) {
    return (text ?? "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => element("p", {}, line(part)));
}

function code(value) {
    return element("code", {}, typeof value === "string" ? value : JSON.stringify(value));
}

/** What `$ref` stands for, and the name under which it is kept. */
function follow(api, what) {
    let name = null;
    for (let steps = 0; what?.$ref !== undefined && steps < 10; steps += 1) {
        const path = what.$ref.replace(/^#\//, "").split("/");
        const keys = path.map((key) => decodeURIComponent(key).replaceAll("~1", "/").replaceAll("~0", "~"));
        name = keys.at(-1);
        what = keys.reduce((value, key) => value?.[key], api);
    }
    return [what ?? {}, name];
}

/** `within` has the names of the schemas around this one: one that holds itself is named, and not shown again. */
function schema(api, reference, within = []) {
    const [shown, name] = follow(api, reference);
    if (shown === true || shown === false) return [element("span", {}, shown ? "anything" : "nothing")];
    const types = [shown.type ?? []].flat();
    const title = element("span", {}, name ? element("strong", {}, name) : "", name && types.length ? " " : "",
        types.join(" or "));
    if (name && within.includes(name)) return [title];
    const inner = name ? [...within, name] : within;

    const limits = LIMITS.filter((limit) => shown[limit] !== undefined);
    for (const limit of limits) title.append(`, ${limit} `, code(shown[limit]));
    if (shown.enum) title.append(": ", ...shown.enum.flatMap((value, index) => [index ? ", " : "", code(value)]));
    const examples = shown.examples ?? (shown.example === undefined ? [] : [shown.example]);
    if (Array.isArray(examples) && examples.length) title.append(", such as ", code(examples[0]));

    const parts = [];
    for (const [property, value] of Object.entries(shown.properties ?? {})) {
        const needed = shown.required?.includes(property) ? " required" : "";
        parts.push(element("li", {}, code(property), element("span", { class: "quiet" }, needed), " ",
            schema(api, value, inner)));
    }
    if (shown.items) parts.push(element("li", {}, "each: ", schema(api, shown.items, inner)));
    if (shown.additionalProperties) {
        parts.push(element("li", {}, "any other field: ", schema(api, shown.additionalProperties, inner)));
    }
    for (const [kind, says] of [["allOf", "and: "], ["oneOf", "one of: "], ["anyOf", "any of: "]]) {
        for (const part of shown[kind] ?? []) parts.push(element("li", {}, says, schema(api, part, inner)));
    }
    return [title, ...prose(shown.description), parts.length ? element("ul", {}, parts) : null];
}

function content(api, all) {
    return Object.entries(all ?? {}).map(([type, media]) =>
        element("div", {}, code(type), ": ", schema(api, media.schema ?? {})));
}

function parameter(api, reference) {
    const [shown] = follow(api, reference);
    const place = ` in ${shown.in}${shown.required ? ", required" : ""} `;
    return element("li", {}, code(shown.name), element("span", { class: "quiet" }, place),
        schema(api, shown.schema ?? {}), prose(shown.description));
}

function response(api, status, reference) {
    const [shown] = follow(api, reference);
    const headers = Object.entries(shown.headers ?? {}).map(([name, header]) => {
        const [says] = follow(api, header);
        return element("li", {}, "header ", code(name), " ", schema(api, says.schema ?? {}), prose(says.description));
    });
    return element("div", {}, element("h4", {}, status), prose(shown.description),
        headers.length ? element("ul", {}, headers) : null, content(api, shown.content));
}

function operation(api, method, path, shared, shown) {
    const security = shown.security ?? api.security ?? [];
    const open = security.length === 0 || security.some((needs) => Object.keys(needs).length === 0);
    const parameters = [...(shared ?? []), ...(shown.parameters ?? [])];
    const [body] = follow(api, shown.requestBody ?? {});
    return element("details", { id: anchor(method, path, shown) },
        element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), code(path), " ",
            line(shown.summary ?? ""), shown.deprecated ? " (deprecated)" : ""),
        prose(shown.description),
        element("p", { class: "quiet" }, open ? "Needs no token." : "Needs a token."),
        parameters.length ? [element("h3", {}, "Parameters"),
            element("ul", {}, parameters.map((one) => parameter(api, one)))] : null,
        shown.requestBody ? [element("h3", {}, "Request body"), prose(body.description), content(api, body.content)] : null,
        element("h3", {}, "Responses"),
        Object.entries(shown.responses ?? {}).map(([status, one]) => response(api, status, one)));
}

function anchor(method, path, shown) {
    return shown.operationId ?? `${method} ${path}`;
}

function page(api) {
    const tags = new Map((api.tags ?? []).map((tag) => [tag.name, { says: tag.description, all: [] }]));
    for (const [path, item] of Object.entries(api.paths ?? {})) {
        for (const method of METHODS.filter((method) => item[method])) {
            for (const tag of item[method].tags ?? ["other"]) {
                if (!tags.has(tag)) tags.set(tag, { all: [] });
                tags.get(tag).all.push([method, path, item.parameters, item[method]]);
            }
        }
    }
    const links = [...tags].map(([tag, { all }]) => element("li", {}, tag, element("ul", {},
        all.map(([method, path, , shown]) => element("li", {},
            element("a", { href: `#${encodeURIComponent(anchor(method, path, shown))}` },
                shown.summary ?? `${method.toUpperCase()} ${path}`))))));
    const sections = [...tags].map(([tag, { says, all }]) => element("section", {}, element("h2", {}, tag), prose(says),
        all.map((one) => operation(api, ...one))));
    return [
        element("h1", {}, api.info.title, " ", element("small", {}, api.info.version ?? "")),
        prose(api.info.description),
        element("p", {}, element("a", { href: "openapi.json" }, "openapi.json")),
        element("nav", { "aria-label": "Operations" }, element("ul", {}, links)),
        ...sections,
    ].flat();
}

/** Opens the operation that the address names. */
function openNamed() {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named?.tagName !== "DETAILS") return;
    named.open = true;
    named.scrollIntoView();
    named.querySelector("summary").focus();
}

async function show() {
    const place = document.getElementById("page");
    try {
        const answer = await fetch("openapi.json");
        if (!answer.ok) throw new Error(`it answers ${answer.status}`);
        const api = await answer.json();
        document.title = api.info.title;
        place.replaceChildren(...page(api));
        addEventListener("hashchange", openNamed);
        openNamed();
    } catch (error) {
        place.replaceChildren(element("p", { role: "alert" }, `openapi.json cannot be shown: ${error.message}`));
    }
}

show();
