// An answer that has come: into view on a phone, read out in short, and the one before it kept, folded, below it. The next
// may come at once where a second file was dropped during the first one's turn.
(() => {
  'use strict';
  const {say} = window.medsharp;
  const EARLIER = 10;
  let last = null;

  const said = node => node.querySelector('[data-said]')?.dataset.said
    || node.querySelector('.ms-problem')?.textContent || '';

  window.medsharp.show = (answer, earlier) => {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    document.getElementById('answer').scrollIntoView({behavior: calm ? 'auto' : 'smooth', block: 'nearest'});
    const before = last;
    last = answer;
    say(said(new DOMParser().parseFromString(answer || '', 'text/html')));
    const drawn = new DOMParser().parseFromString(before || '', 'text/html').body;
    const title = drawn.querySelector('.ms-name, caption');
    if (title === null || before === answer) return earlier;
    const kept = new DOMParser().parseFromString(earlier || '', 'text/html').body;
    const folded = document.createElement('details');
    folded.append(document.createElement('summary'), ...drawn.childNodes);
    folded.firstChild.textContent = title.textContent;
    const all = [folded, ...kept.querySelectorAll(':scope > details')].slice(0, EARLIER);
    return '<p class="ms-small">Earlier answers, kept in this page only:</p>' + all.map(one => one.outerHTML).join('');
  };

  // The place for files is cleared for the next, but not while the next is arriving, when there is no field for files:
  // it would be lost, and the page with it. An update of nothing leaves all as it is.
  window.medsharp.clear = () =>
    document.querySelector('#upload input[type=file]') === null ? {__type__: 'update'} : null;
})();
