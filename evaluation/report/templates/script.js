(async (nonce) => {
  const packed = Uint8Array.from(atob(document.getElementById("plotly-packed").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.nonce = nonce;
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const still = { displayModeBar: false, responsive: true, showLink: false };
  for (const chart of JSON.parse(document.getElementById("charts").textContent)) {
    await new Promise(requestAnimationFrame); // the page stays usable between two charts
    await Plotly.newPlot(chart.id, chart.data, chart.layout, still);
  }
  document.documentElement.dataset.charts = "drawn";
})(document.currentScript.nonce);
