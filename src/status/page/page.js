
'use strict';
// Fetches the part of the page that changes once a second while somebody looks, and draws what the counters in it
// say. Everything else is made by the portal.
const SECONDS = 300;
const SVG = 'http://www.w3.org/2000/svg';
const histories = new Map();
let last = null;

function read() {
  const live = document.getElementById('live');
  const counted = element => ({ sent: Number(element.dataset.sent), received: Number(element.dataset.received) });
  const counts = new Map();
  for (const element of live.querySelectorAll('[data-sent]')) counts.set(element.dataset.key, counted(element));
  return { uptime: Number(live.dataset.uptime), at: Date.now(), counts };
}

// What crossed the interface and each link since the last look; a portal or link that began anew has no rate yet.
function remember() {
  const now = read();
  const seconds = last ? now.uptime - last.uptime : 0;
  if (seconds === 0 && last) return;
  if (seconds < 0) histories.clear();
  for (const [key, counts] of now.counts) {
    const before = seconds > 0 && last.counts.get(key);
    if (!before || counts.sent < before.sent || counts.received < before.received) continue;
    const rate = name => (counts[name] - before[name]) * 8 / seconds;
    push(key, { at: now.at, sent: rate('sent'), received: rate('received') }, now.at);
  }
  last = now;
}

function push(key, sample, now) {
  const samples = histories.get(key) || [];
  samples.push(sample);
  while (samples[0].at < now - SECONDS * 1000) samples.shift();
  histories.set(key, samples);
}

function inUnits(rate) {
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'];
  let unit = 0;
  while (rate >= 999.5 && unit + 1 < units.length) { rate /= 1000; unit++; }
  const digits = unit === 0 || rate >= 99.95 ? 0 : rate >= 9.995 ? 1 : 2;
  return rate.toFixed(digits) + '\u00a0' + units[unit];
}

// The next of 1, 2, 5, 10, … so that the scale stays where it is for a while.
function roundUp(rate) {
  const power = 10 ** Math.floor(Math.log10(Math.max(rate, 10000)));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= rate);
}

function draw() {
  for (const place of document.querySelectorAll('.graph')) {
    const samples = histories.get(place.dataset.key) || [];
    const most = roundUp(Math.max(...samples.flatMap(sample => [sample.sent, sample.received]), 0));
    const svg = element('svg', { viewBox: '0 0 300 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    svg.append(element('path', { class: 'grid', d: 'M0 1H300M0 50H300M0 99H300' }));
    for (const name of ['received', 'sent']) {
      const points = samples.map(sample => {
        const x = 300 - (last.at - sample.at) / 1000 * 300 / SECONDS;
        return x.toFixed(1) + ' ' + (99 - 97 * sample[name] / most).toFixed(1);
      });
      if (points.length < 2) continue;
      const [from, to] = [points[0], points[points.length - 1]].map(point => point.split(' ')[0]);
      svg.append(element('path', { class: 'area ' + name, d: `M${from} 99L${points.join('L')}L${to} 99Z` }));
      svg.append(element('path', { class: name, d: 'M' + points.join('L') }));
    }
    const label = (name, text) => Object.assign(document.createElement('span'), { className: name, textContent: text });
    place.replaceChildren(svg, label('most', inUnits(most)), label('age', '5 min ago'));
  }
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function localTimes() {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: 'short', timeStyle: 'medium' });
  for (const time of document.querySelectorAll('time')) time.textContent = format.format(new Date(time.dateTime));
}

function show() {
  remember();
  draw();
  localTimes();
}

function tell(trouble) {
  const line = document.getElementById('trouble');
  line.hidden = !trouble;
  line.textContent = trouble;
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch('live', { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error('it answers ' + answer.status);
    const text = await answer.text();
    const scrolled = document.querySelector('ol').scrollTop;
    document.getElementById('live').outerHTML = text;
    show();
    document.querySelector('ol').scrollTop = scrolled;
    tell('');
  } catch (error) {
    tell('The portal does not answer; these figures are old. (' + error.message + ')');
  }
}

show();
(async () => {
  for (;;) {
    await new Promise(wake => setTimeout(wake, 1000));
    await refresh();
  }
})();
