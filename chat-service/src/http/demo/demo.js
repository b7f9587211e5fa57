// An app of one member, over the API that every app uses: lists say how things stand, the event stream
// what changed since. State is kept here and shown by `render`; what others wrote is only ever text.

import { ask, jittered, memberOf, token } from "/demo/api.js";
import { $, list, write, writePart } from "/demo/dom.js";

const SYSTEM = {
  trade_post_on_sale: "The item is on sale again.",
  trade_post_reserved: "The item is reserved.",
  trade_post_sold: "The item is sold.",
};
const CLOSED = {
  trade_post_deleted: "This room is closed: the trade post was deleted, and its chats with it.",
  member_erased: "This room is closed: its members have gone.",
};

/** The member's id. */
let me;
/** The rooms as the API gives them, by id; one that was closed meanwhile says so in `closed`. */
const rooms = new Map();
/** The room that is open: its messages by `seq`, of which none is missing up to `last`. */
let shown;
/** Messages that are not known to have arrived, by their client_message_id. */
const outgoing = new Map();
/** Where the event stream goes on. */
let lastEventId;

// ---- The event stream

const on = {
  message: ({ room_id, message }) => {
    if (message && room_id === shown?.id) add([message]);
    refresh(room_id);
  },
  room_created: ({ room_id }) => refresh(room_id),
  room_closed: ({ room_id, reason }) => close(room_id, reason),
  trade_post_changed: ({ room_id }) => {
    if (room_id === shown?.id) catchUp();
    refresh(room_id);
  },
  read: ({ room_id }) => refresh(room_id),
  // What happened is not kept any more; the lists say what came of it.
  reset: () => load(),
};

async function listen() {
  // An EventSource sends no header: the session's cookie says who reads.
  await ask("PUT", "/v1/session").catch(signOut);
  const stream = new EventSource(`/v1/events?last_event_id=${lastEventId}`);
  stream.onopen = () => say("Connected");
  stream.onerror = () => {
    say("Reconnecting…");
    // It comes back by itself where it was cut off, but gives up for good where it was refused.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, jittered(2000));
  };
  for (const [name, handle] of Object.entries(on)) {
    stream.addEventListener(name, (event) => {
      lastEventId = event.lastEventId;
      handle(JSON.parse(event.data));
    });
  }
}

// ---- Rooms

/** Reads the list of rooms. Answers the id behind which events are news to it. */
async function load() {
  const found = [];
  let first;
  let cursor = "";
  do {
    const page = await ask("GET", `/v1/rooms?limit=100${cursor}`);
    first ??= page.last_event_id;
    found.push(...page.items);
    cursor = page.next_cursor && `&cursor=${encodeURIComponent(page.next_cursor)}`;
  } while (cursor);
  const open = rooms.get(shown?.id);
  rooms.clear();
  for (const room of found) rooms.set(room.id, room);
  if (open) {
    // It may be gone: then the answer says why.
    if (!rooms.has(open.id)) rooms.set(open.id, open);
    refresh(open.id);
    catchUp();
  }
  render();
  return first;
}

/** Rooms that are being read, and whether they have changed since. */
const refreshing = new Map();

async function refresh(id) {
  const running = refreshing.has(id);
  refreshing.set(id, true);
  if (running) return;
  while (refreshing.get(id)) {
    refreshing.set(id, false);
    await inRoom(id, async () => put(await ask("GET", `/v1/rooms/${id}`)));
  }
  refreshing.delete(id);
}

function put(room) {
  // An answer may be older than the event that closed the room.
  if (!rooms.get(room.id)?.closed) rooms.set(room.id, room);
  render();
}

function close(id, reason) {
  const room = rooms.get(id);
  if (!room) return;
  room.closed = CLOSED[reason] ?? "This room is closed.";
  if (id === shown?.id) shown.messages.clear();
  for (const [key, message] of outgoing) if (message.room_id === id) outgoing.delete(key);
  render();
}

/** Does something in a room. That the room is gone may be answered before the event says so. */
async function inRoom(id, action, refused = show) {
  try {
    await action();
  } catch (error) {
    if (error.status === 410) close(id, error.reason);
    else refused(error);
  }
}

// ---- Messages of the room that is open

function enter(id) {
  shown = { id, messages: new Map(), last: undefined, marked: 0 };
  render();
  read("");
}

/** Reads its newest messages, or those that came behind the last one. */
async function read(after) {
  const { id } = shown;
  await inRoom(id, async () => {
    const { items } = await ask("GET", `/v1/rooms/${id}/messages?limit=100${after}`);
    if (shown.id !== id) return;
    shown.last ??= items[0]?.seq ?? 0;
    add(items);
  });
}

function catchUp() {
  if (shown.last !== undefined) read(`&after=${shown.last}`);
}

function add(messages) {
  if (rooms.get(shown.id).closed) return;
  for (const message of messages) {
    outgoing.delete(message.client_message_id);
    shown.messages.set(message.seq, message);
  }
  while (shown.messages.has(shown.last + 1)) shown.last += 1;
  // No event brings system messages, nor those that this member sent elsewhere.
  if (Math.max(...shown.messages.keys()) > shown.last) catchUp();
  render();
}

let sending = Promise.resolve();

function send(room_id, body) {
  const message = { room_id, body, client_message_id: crypto.randomUUID() };
  const { client_message_id } = message;
  outgoing.set(client_message_id, message);
  render();
  const refused = (error) => {
    message.failed = `Not sent. ${error.message}`;
    render();
  };
  const deliver = async () => {
    // However often it is asked, the id makes it one message.
    const sent = await ask("POST", `/v1/rooms/${room_id}/messages`, { client_message_id, body });
    outgoing.delete(client_message_id);
    if (shown.id === room_id) add([sent]);
    refresh(room_id);
  };
  // One after the other: they arrive in the order they were written in.
  sending = sending.then(() => inRoom(room_id, deliver, refused));
}

async function markRead(room) {
  const { id, last } = shown;
  if (room.closed || !room.unread || !(last > shown.marked) || document.hidden) return;
  shown.marked = last;
  await inRoom(id, async () => {
    Object.assign(room, await ask("PUT", `/v1/rooms/${id}/read`, { up_to: last }));
    render();
  });
}

// ---- What is seen

function describe({ trade_post: { id, title, status } }) {
  return `${title ?? "Trade post"} (${id}${status === "on_sale" ? "" : `, ${status}`})`;
}

function fillRoom(item, room) {
  const news = room.closed ? " · closed" : room.unread ? ` · ${room.unread} unread` : "";
  writePart(item, "button", describe(room) + news).onclick = () => enter(room.id);
  item.className = room.closed ? "closed" : "";
  item.setAttribute("aria-current", room.id === shown?.id);
}

function fillMessage(item, message, room) {
  const mine = !message.seq || message.sender_id === me;
  item.className = message.kind === "system" ? "system" : mine ? "mine" : "";
  const text = { system: SYSTEM[message.event], erased: "(erased)" }[message.kind];
  writePart(item, "span", text ?? message.body);
  if (!mine) return;
  const arrived = message.seq <= room.other_read_up_to ? "Read" : "Sent";
  writePart(item, "small", message.seq ? arrived : message.failed ?? "Sending…");
}

function render() {
  const active = [...rooms.values()].sort((a, b) => b.last_activity_at.localeCompare(a.last_activity_at));
  list($("rooms"), active, ({ id }) => id, fillRoom);
  const room = rooms.get(shown?.id);
  $("room").hidden = !room;
  if (!room) return;
  write($("room-title"), describe(room));
  write($("closed"), room.closed ?? "");
  $("send-form").hidden = Boolean(room.closed);
  const arrived = [...shown.messages.values()].sort((a, b) => a.seq - b.seq);
  const waiting = [...outgoing.values()].filter(({ room_id }) => room_id === room.id);
  const { scrollTop, clientHeight, scrollHeight } = $("messages");
  list($("messages"), [...arrived, ...waiting], ({ seq, client_message_id }) => seq ?? client_message_id,
    (item, message) => fillMessage(item, message, room));
  // Whoever reads further up is left there.
  if (scrollTop + clientHeight > scrollHeight - 10) $("messages").scrollTop = $("messages").scrollHeight;
  markRead(room);
}

const say = (text) => write($("status"), `Member ${me} · ${text}`);
const show = (error) => write($("error"), error.message);

// ---- Coming and going

/** A browser has one session: whoever signs in elsewhere in it takes this page's stream away. */
const tabs = new BroadcastChannel("signed-in");

function signIn(value) {
  sessionStorage.setItem("token", value.trim());
  location.reload();
}

function signOut({ message }) {
  sessionStorage.removeItem("token");
  sessionStorage.setItem("message", message);
  location.reload();
}

function act(id, event, action) {
  $(id).addEventListener(event, async (happened) => {
    happened.preventDefault();
    write($("error"), "");
    await Promise.resolve(action()).catch(show);
  });
}

act("token-form", "submit", () => signIn($("token").value));
act("sign-out", "click", async () => {
  await ask("DELETE", "/v1/session");
  signOut({ message: "" });
});
act("open-form", "submit", async () => {
  const room = await ask("POST", "/v1/rooms", { trade_post_id: Number($("post").value) });
  put(room);
  enter(room.id);
});
act("send-form", "submit", () => {
  send(shown.id, $("body").value);
  $("body").value = "";
});
$("body").addEventListener("keydown", (event) => {
  // Enter also ends a syllable that is being composed.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("send-form").requestSubmit();
});
document.addEventListener("visibilitychange", render);

async function start() {
  me = memberOf(token);
  tabs.onmessage = ({ data }) => {
    if (data === me) return;
    signOut({ message: `Member ${data} signed in here too; use a private window to be both.` });
  };
  tabs.postMessage(me);
  $("chats").hidden = $("sign-out").hidden = false;
  say("Connecting…");
  lastEventId = await load();
  await listen();
}

async function offerMembers() {
  const members = await (await fetch("/demo/members.json")).json();
  list($("members"), members, ({ name }) => name, (item, { name, token }) => {
    writePart(item, "button", name).onclick = () => signIn(token);
  });
  write($("error"), sessionStorage.getItem("message") ?? "");
  $("sign-in").hidden = false;
}

await (token ? start().catch(signOut) : offerMembers());
