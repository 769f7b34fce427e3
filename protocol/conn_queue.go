package protocol

// The queue of a connection's unanswered requests. It is in use while a pipelined
// request waits; then every answer goes through it, so that the order holds.

// enqueue hands r to the flusher. While too many are unanswered it waits, and so
// nothing more is read.
func (c *conn) enqueue(r *request) *closing {
	c.mu.Lock()
	for int(c.pending.Load()) >= c.s.limits.UnansweredRequests && c.failure == nil {
		c.changed.Wait()
	}
	if end := c.failure; end != nil {
		c.mu.Unlock()
		c.abandon(r)
		return end
	}
	if c.last == nil {
		c.first = r
	} else {
		c.last.next = r
	}
	c.last = r
	c.pending.Add(1)
	if !c.flusher {
		c.flusher = true
		c.s.running.Add(1) // serve runs, so the server cannot be done
		go c.answerQueue()
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	return nil
}

// answerQueue is the flusher: it answers from the head of the queue until the
// connection ends.
func (c *conn) answerQueue() {
	defer c.s.running.Done()
	for r := c.head(); r != nil; r = c.head() {
		if c.failed() != nil {
			c.pop()
			c.abandon(r)
			continue
		}
		if end := c.answerHead(r); end != nil {
			c.fail(end)
		}
		c.pop()
		c.recycle(r)
	}
}

// answerHead waits for the head's response, appends it to the output and writes,
// unless the next one goes with it.
func (c *conn) answerHead(r *request) *closing {
	if r.answer.kind == answerLater {
		var end *closing
		if !r.answer.isReady() {
			end = c.flush() // what is finished must not wait for this one
		}
		r.wait(c.s.force)
		if end != nil {
			r.dropResponse()
			return end
		}
	}
	end := c.encode(r)
	if end == nil && (c.isLast(r) || c.out.size() >= flushBytes) {
		end = c.flush()
	}
	return end
}

// isReady reports whether the answer's Later is known not to wait.
func (a *Answer) isReady() bool {
	if a.ready == nil {
		return false
	}
	select {
	case <-a.ready:
		return true
	default:
		return false
	}
}

func (c *conn) isLast(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.next == nil
}

// head waits for a request to answer. It returns nil, and the flusher is gone,
// when none can come any more.
func (c *conn) head() *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.first == nil && !c.ending {
		c.changed.Wait()
	}
	if c.first == nil {
		c.flusher = false
		c.changed.Broadcast()
	}
	return c.first
}

// pop takes the answered head off the queue. With the last one the output goes
// back to the connection's goroutine, empty.
func (c *conn) pop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first = c.first.next; c.first == nil {
		c.last = nil
	}
	c.pending.Add(-1)
	c.changed.Broadcast()
}
