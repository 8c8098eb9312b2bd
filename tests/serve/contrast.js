// What cannot be read or named on the page: text whose contrast is less than WCAG's AA asks for, and controls, pictures and
// frames without a name.
(() => {
  const colour = text => {
    const parts = (text.match(/[\d.]+%?/g) || []).map(Number);
    return /^color\(srgb/.test(text)
      ? [parts[0] * 255, parts[1] * 255, parts[2] * 255, parts[3] ?? 1]
      : [parts[0] || 0, parts[1] || 0, parts[2] || 0, parts[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map(n => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
  const behind = element => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(colour(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const luminance = ([r, g, b]) => [r, g, b]
    .map(value => value / 255)
    .map(value => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, n) => sum + value * [0.2126, 0.7152, 0.0722][n], 0);
  const seen = element => element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})
    && element.getClientRects().length > 0 && !element.closest('.ms-unseen, [aria-hidden=true], :disabled');

  const faults = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const words = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!words || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName) || !seen(element)) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    const ink = over(colour(style.color), ground);
    const [high, low] = [luminance(ink), luminance(ground)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) faults.push(`${ratio.toFixed(2)}: ${words.slice(0, 60)} (${element.className})`);
  }
  const named = element => element.getAttribute('aria-label') || element.getAttribute('aria-labelledby')
    || element.title || element.alt || element.labels?.length || element.textContent.trim();
  for (const element of document.querySelectorAll('button, input, select, textarea, iframe, a[href], summary, progress')) {
    if (element.type !== 'hidden' && seen(element) && !named(element)) faults.push('no name: ' + element.outerHTML.slice(0, 160));
  }
  for (const image of document.querySelectorAll('img')) {
    if (seen(image) && !image.hasAttribute('alt')) faults.push('no alt: ' + image.outerHTML.slice(0, 80));
  }
  return faults;
})()
