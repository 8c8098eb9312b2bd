"""The page at `/docs`: the API in short, without a script of another host."""

from __future__ import annotations

import html

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from serve.api.answers import ImageAnswer
from serve.api.context import Context
from serve.security.gate import NOTICE


def add_docs_route(app: FastAPI, context: Context) -> None:
    """Add `/docs`."""

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs_page() -> str:
        return _docs_page(", ".join(context.models.names))


def _docs_page(models: str) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(field.description or NOTICE)}</td></tr>"
        for name, field in ImageAnswer.model_fields.items()
    )
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>medsharp API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#1f2933}}
pre{{background:#f1f4f8;padding:1rem;overflow-x:auto;border-radius:.4rem}}
td{{padding:.3rem .8rem .3rem 0;vertical-align:top}}
.notice{{background:#7a1d1d;color:#fff;padding:.5rem 1rem;border-radius:.4rem}}</style></head><body>
<p class="notice"><strong>{NOTICE}</strong> Research software.</p>
<h1>medsharp API</h1><p>Models: {html.escape(models)}</p>
<h2>POST /v1/predict</h2>
<pre>curl -F files=@image.png -F files=@scan.dcm -F heatmap=1 http://127.0.0.1:7860/v1/predict
curl -H "Content-Type: image/png" --data-binary @image.png http://127.0.0.1:7860/v1/predict</pre>
<p>One entry an image, in the order sent. An image that cannot be read has its reason under <code>error</code>; one
that an input check refuses has <code>"status": "refused"</code>, its <code>findings</code>, and null in place of
numbers, which is not an all-clear; the others are assessed. 200 when at least one could be read, 422 when none could
or a wish is misspelt, 413 for too many bytes or images, 429 with <code>Retry-After</code> when too many requests wait
already, 504 when the answer takes too long, 401 for a visitor who must say who they are (<code>curl --user
user:password</code>).
<code>POST /predict</code> takes forms as before.</p><table>{rows}</table>
<h2>GET /v1/models, /v1/models/NAME, /model</h2><p>Which models there are, what each is and how it did: internal
figures, and those of each hospital that was left out of training, each with its 95 % interval, or a remark that there
are none.</p>
<h2>/v2/models/NAME/infer</h2><p>The Open Inference Protocol, for Triton's clients: <code>/v2/models/NAME</code> says
what a model takes.</p>
<h2>GET /healthz, /readyz, /metrics</h2><p>Whether the server lives, whether it takes requests, and what it counts, for
Prometheus.</p>
<p>Machine-readable: <a href="openapi.json">openapi.json</a>. <a href="./">The page</a>.</p></body></html>"""
