// What all parts of the page use. Files stay in this page, as the browser holds them, so that the server need keep none:
// whoever asks for another frame, a region or a download sends the image again.
window.medsharp = (() => {
  'use strict';
  const MOST_KEPT = 400;
  let kept = [];

  const keep = files => { kept = [...files, ...kept].slice(0, MOST_KEPT); };

  // Capturing, since Gradio empties the field once it has taken the files.
  document.addEventListener('change', event => {
    if (event.target.matches?.('#upload input[type=file]')) keep(event.target.files);
  }, true);
  document.addEventListener('drop', event => {
    if (event.target.closest?.('#upload')) keep(event.dataTransfer.files);
  }, true);

  const table = Uint32Array.from({length: 256}, (_, value) => {
    for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xEDB88320 : value >>> 1;
    return value;
  });
  const crc32 = async file => {
    let value = 0xFFFFFFFF;
    for (const byte of new Uint8Array(await file.arrayBuffer())) value = table[(value ^ byte) & 255] ^ (value >>> 8);
    return (value ^ 0xFFFFFFFF) >>> 0;
  };

  const address = path => location.pathname.replace(/\/?$/, '/') + path;

  // The file that an answer is of: found by its content, as hospitals call all their files alike.
  const fileOf = async card => {
    if (card.dataset.example) {
      const answer = await fetch(address('page/examples/' + card.dataset.example));
      return new File([await answer.blob()], card.dataset.name);
    }
    for (const file of kept) {
      if (file.size === Number(card.dataset.sentBytes) && await crc32(file) === Number(card.dataset.sentCrc)) return file;
    }
    throw new Error('This page has the file no longer; please choose it again.');
  };

  const sentence = async answer => {
    const text = await answer.text();
    let words;
    try { words = JSON.parse(text).detail; } catch { words = text; }
    words = String(words || 'the server answered with an error').trim();
    return words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? '' : '.');
  };

  const post = async (path, file, fields, signal) => {
    const form = new FormData();
    for (const one of [file].flat()) form.append('files', one, one.name);
    for (const [name, value] of Object.entries(fields)) if (value !== '' && value != null) form.append(name, value);
    let answer;
    try {
      answer = await fetch(address(path), {method: 'POST', body: form, signal});
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Error('The server cannot be reached; is it running still?');
    }
    if (!answer.ok) throw new Error(await sentence(answer));
    return answer;
  };

  // Lines of JSON as they come: {done, total} for progress, {html} or {error} at the end.
  const stream = async (answer, progress) => {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let last = {};
    for (;;) {
      const {value, done} = await reader.read();
      const lines = (rest + (value || '')).split('\n');
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) {
        last = JSON.parse(line);
        if ('total' in last) progress(last);
      }
      if (done) break;
    }
    if (last.error) throw new Error(last.error);
    if (!('html' in last)) throw new Error('The answer broke off; please try again.');
    return last;
  };

  // Read out by a screen reader; the answer itself is not, as it is long.
  const say = words => { document.getElementById('ms-said').textContent = words; };

  const problem = words => {
    const box = document.createElement('div');
    box.className = 'ms-problem';
    box.setAttribute('role', 'alert');
    box.textContent = words;
    return box;
  };

  const save = (blob, name) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  const saveAnswer = async answer => {
    const name = /filename="([^"]+)"/.exec(answer.headers.get('content-disposition') || '');
    save(await answer.blob(), name ? name[1] : 'medsharp-answer');
  };

  // One listener for the whole page: Gradio draws and draws again what is on it.
  const on = (kind, selector, act) => document.addEventListener(kind, event => {
    const found = event.target.closest?.(selector);
    if (found) act(found, event);
  });

  const lastCard = () => document.querySelector('#answer details[open] .ms-card[data-image]')
    || document.querySelector('#answer .ms-card[data-image]');

  return {address, fileOf, keep, lastCard, on, post, problem, save, saveAnswer, say, stream};
})();
