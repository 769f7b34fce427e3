package vfs

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestQuota(t *testing.T) {
	q := NewQuota(NewMem(), 4*quotaBlock)
	if err := q.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	open := func(name string) File {
		t.Helper()
		f, err := q.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	free := func(want int64) {
		t.Helper()
		if got := q.Free(); got != want*quotaBlock {
			t.Fatalf("%d bytes are free, want %d blocks", got, want)
		}
	}
	a, b := open("d/a"), open("d/b")
	if _, err := a.WriteAt(make([]byte, quotaBlock+1), 0); err != nil {
		t.Fatal(err)
	}
	free(2)
	if err := b.Preallocate(0, 3*quotaBlock); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	free(2)
	if err := b.Preallocate(0, 2*quotaBlock); err != nil {
		t.Fatal(err)
	}
	free(0)
	if n, err := a.WriteAt(make([]byte, quotaBlock), quotaBlock+10); !errors.Is(err, syscall.ENOSPC) || n != quotaBlock-10 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if n, err := b.WriteAt(make([]byte, quotaBlock), 0); err != nil || n != quotaBlock { // into reserved blocks
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := b.Truncate(quotaBlock); err != nil {
		t.Fatal(err)
	}
	free(1)
	if err := q.Rename("d", "e"); err != nil {
		t.Fatal(err)
	}
	if err := q.Remove("e/a"); err != nil {
		t.Fatal(err)
	}
	free(3)
	q.SetLimit(0)
	if n, err := b.WriteBuffersAt([][]byte{make([]byte, 10), make([]byte, 10)}, quotaBlock-10); !errors.Is(err, syscall.ENOSPC) || n != 10 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	q.SetLimit(4 * quotaBlock)
	if err := q.RemoveAll("e"); err != nil {
		t.Fatal(err)
	}
	free(4)
}
