; trm_verify obligation; the answer to it must be unsat
; certificate  sha256:a56a89ddfaca8bae193cb826d353cfa38954b6bc3e4334cb6e4602146acf6b08
; weights      sha256:45a1f03c98aee310f479664d904b3478da1e716c4e158c5d13e30a6eaab64c4f
; claim        0, contraction
; proof page   proofs/claims.md
; shown        the rate is no larger
; shown        the rate is below 1
; assumed      nothing
(set-info :smt-lib-version 2.6)
(set-logic QF_LRA)
; the rate is no larger
(define-fun goal0 () Bool (<= (/ 3.0 4.0) (/ 3.0 4.0)))
; the rate is below 1
(define-fun goal1 () Bool (< (/ 3.0 4.0) 1.0))
(assert (not (and goal0 goal1)))
(check-sat)
(exit)
