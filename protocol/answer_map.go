package protocol

import "context"

// Map makes an answer whose response, once there is one, passes through f: for
// what is done alike with the answers of many rows. A nil response of a Later
// does not pass.
func (a Answer) Map(f func(Response) Response) Answer {
	if a.response != nil {
		a.response = f(a.response)
	}
	if wait := a.wait; wait != nil {
		a.wait = func(ctx context.Context) Response {
			r := wait(ctx)
			if r == nil {
				return nil
			}
			return f(r)
		}
	}
	return a
}
