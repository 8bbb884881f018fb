// Package conformance holds the gateway to what it promises, in Gherkin: one
// scenario for each operation, error code, state and event of the CAMARA WebRTC
// APIs. The gateway is the real program, on SQLite and on PostgreSQL; beside it
// run an authorization server, a simulated telephone network and the sinks of
// events. A scenario runs for every generation, or for those that its tags name:
// @r31, @r22 and @main.
//
// Each answer is checked against the OpenAPI document that the gateway serves,
// each event against the schema of the generation that its subscription was made
// through, whatever else a scenario looks at.
//
// One gateway serves all scenarios at the same time. They keep out of each
// other's way by their numbers and devices, which are made for each. That
// something does not happen is shown by what happens after it, never by waiting.
package conformance
