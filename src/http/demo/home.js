// The start page: makes a room and its first invite link.

const $ = (id) => document.getElementById(id);

async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

/** The link as this browser reaches the server, whatever the server thinks its address is. */
async function invite(room) {
  const { url } = await post(`/v1/rooms/${encodeURIComponent(room)}/invites`, {});
  const path = new URL(url, location.origin).pathname;
  return new URL(path, location.origin).href;
}

$('make').addEventListener('submit', async (event) => {
  event.preventDefault();
  $('failure').hidden = true;
  try {
    const title = $('title').value.trim();
    const room = await post('/v1/rooms', { metadata: title ? { title } : {} });
    const link = await invite(room.id);
    $('link').value = link;
    $('enter').href = link;
    $('made').hidden = false;
    $('enter').focus();
    await list();
  } catch (error) {
    $('failure').textContent = error.message;
    $('failure').hidden = false;
  }
});

$('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText($('link').value);
  } catch {
    $('link').select();
  }
  $('copy').textContent = 'Copied';
});

async function list() {
  const { items } = await (await fetch('/v1/rooms?limit=20')).json();
  $('rooms').hidden = items.length === 0;
  $('list').replaceChildren(...items.map(row));
}

function row(room) {
  const item = document.createElement('li');
  const name = document.createElement('span');
  name.textContent = room.metadata.title || room.id;
  const online = document.createElement('span');
  online.className = 'count';
  online.textContent = `${room.online} here`;
  const enter = document.createElement('button');
  enter.type = 'button';
  enter.textContent = 'Enter';
  enter.setAttribute('aria-label', `Enter ${name.textContent}`);
  enter.addEventListener('click', async () => { location.href = await invite(room.id); });
  item.append(name, online, enter);
  return item;
}

list().catch((error) => console.error(error));
