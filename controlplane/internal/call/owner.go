package call

// DefaultTenant is the tenant of an operator who configures none.
const DefaultTenant = "default"

// Owner says to whom a resource belongs, or as whom a token acts: an application
// of a tenant, for one subscriber or, with an empty Subject, for the application
// alone (client credentials).
type Owner struct {
	Tenant   string
	Issuer   string
	ClientID string
	Subject  Number
}

// MayUse reports whether a token of o may act on a resource of the given owner:
// the same application, and the same subscriber unless the token is bound to
// none (CAMARA API Design Guide, resource restriction).
func (o Owner) MayUse(resource Owner) bool {
	if o.Tenant != resource.Tenant || o.Issuer != resource.Issuer || o.ClientID != resource.ClientID {
		return false
	}
	return o.Subject == "" || o.Subject == resource.Subject
}
