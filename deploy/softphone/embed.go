// Package softphone is the demo telephone as a web page: a CAMARA WebRTC
// application in TypeScript, without a framework, and the handler that serves it.
//
// The source is in src, what browsers get is in dist, which is built by
// "go generate" and committed, so that building the gateway needs nothing but
// Go. src/main.ts says how the page is made up and what tests may rely on.
package softphone

import "embed"

//go:generate go tool -modfile=../tools/tools.mod esbuild src/main.ts src/style.css src/index.html src/icon.svg --bundle --minify --format=esm --target=es2022 --charset=utf8 --loader:.html=copy --loader:.svg=copy --log-level=warning --outdir=dist

//go:embed dist
var dist embed.FS
