; trm_verify obligation; the answer to it must be unsat
; certificate  sha256:ec6344047be9b935544daafdb6bd6eb366eda0e4da94401a31f269eda7fd768b
; weights      sha256:411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd
; step         0, invariant_box
; proof page   proofs/invariant_box.md
; shown        the image stays in the box
; assumed      nothing
(set-info :smt-lib-version 2.6)
(set-logic QF_LRA)
(declare-const z0 Real)
(assert (and (<= (- (/ 3.0 2.0)) z0) (<= z0 (/ 3.0 2.0))))
(declare-const z1 Real)
(assert (and (<= (- (/ 3.0 2.0)) z1) (<= z1 (/ 3.0 2.0))))
(declare-const f1.0 Real)
(assert (= f1.0 (* (- 1.0) z0)))
(declare-const f1.1 Real)
(assert (= f1.1 (* (- 1.0) z1)))
; the image stays in the box
(define-fun goal0 () Bool (and (<= (- (/ 3.0 2.0)) f1.0) (<= f1.0 (/ 3.0 2.0))))
(define-fun goal1 () Bool (and (<= (- (/ 3.0 2.0)) f1.1) (<= f1.1 (/ 3.0 2.0))))
(assert (not (and goal0 goal1)))
(check-sat)
(exit)
