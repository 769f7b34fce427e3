package broker

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/log"
)

func TestCodeOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want *kerr.Error
	}{
		{fmt.Errorf("append: %w", log.ErrOutOfOrderSequence), kerr.OutOfOrderSequenceNumber},
		{fmt.Errorf("append: %w", log.ErrDiskFull), kerr.KafkaStorageError},
		{fmt.Errorf("append: %w", kerr.InvalidRecord), kerr.InvalidRecord},
		{context.Canceled, kerr.CoordinatorNotAvailable},
		{errors.New("something else"), kerr.UnknownServerError},
	} {
		if got := codeOf(tc.err); got != tc.want.Code {
			t.Errorf("%v: code %d, want %d", tc.err, got, tc.want.Code)
		}
	}
	if codeOf(nil) != 0 {
		t.Error("no error is code 0")
	}
}

// The table has no sentinel twice, and every sentinel its own meaning.
func TestErrorTableIsAFunction(t *testing.T) {
	rows := errorTable()
	for i := range rows {
		for j := range i {
			if errors.Is(rows[i].err, rows[j].err) {
				t.Errorf("%v is in the table twice", rows[i].err)
			}
		}
	}
}
