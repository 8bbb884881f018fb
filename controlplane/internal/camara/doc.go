// Package camara is the API Exposure Function: it offers the use cases of package
// gateway as the CAMARA WebRTC APIs (registration, call handling, events
// subscriptions), every published generation at once.
//
// A generation is a thin adapter: it knows how its release spells requests,
// answers and events, and nothing else knows. Which operations it has, what they
// take and which scopes they need is read from its OpenAPI document (package
// apidoc); an adapter binds a handler to each operationId. Registrations, calls
// and subscriptions are the same resources behind all generations.
//
// Every request is judged in one order, and the first failure is the answer:
//
//	path, method ─► access token ─► x-correlator ─► scope ─► id, Accept,
//	404, 405        401, 503        400             403      parameters, body
//	                                                         400 406 413 415
//	   ─► ownership ─► the rules of the operation
//	      404, 403     400 403 404 409 422 429 501 503 504
//
// so that a caller without a valid token learns nothing but that. Every answer
// carries x-correlator, every refusal a CAMARA ErrorInfo, a panic included.
//
// The handler does its own routing, since paths are never cleaned nor redirected:
// a missing id is the caller's error and is told as such. It must not be mounted
// behind http.ServeMux patterns that clean paths.
package camara
