; trm_verify obligation; the answer to it must be unsat
; certificate  sha256:4399236aada3000fdd0cdee3afff6f275fad63c80c3b9c3243ca3acc3da234b9
; weights      sha256:5ce4b055c8512ed9ab49a1ea033498b624c276ff1eeca216e90181c44e7098f8
; step         0, spectral
; proof page   proofs/spectral.md
; shown        σ ≥ 0
; shown        σ²I − WᵀW minus its factor's square is diagonally dominant
; assumed      nothing
(set-info :smt-lib-version 2.6)
(set-logic QF_LRA)
(define-fun ww () Real (+ (* (/ 3.0 8.0) (/ 3.0 8.0)) (* (/ 1.0 2.0) (/ 1.0 2.0))))
(define-fun e0.0 () Real (+ (* (/ 5.0 8.0) (/ 5.0 8.0)) (- ww)))
(define-fun ww.2 () Real (+ (* (/ 3.0 8.0) (- (/ 1.0 2.0))) (* (/ 1.0 2.0) (/ 3.0 8.0))))
(define-fun e0.1 () Real (- ww.2))
(define-fun ww.3 () Real (+ (* (- (/ 1.0 2.0)) (- (/ 1.0 2.0))) (* (/ 3.0 8.0) (/ 3.0 8.0))))
(define-fun e1.1 () Real (+ (* (/ 5.0 8.0) (/ 5.0 8.0)) (- ww.3)))
; σ ≥ 0
(define-fun goal0 () Bool (<= 0.0 (/ 5.0 8.0)))
; σ²I − WᵀW minus its factor's square is diagonally dominant
(define-fun goal1 () Bool (<= (ite (<= 0.0 e0.1) e0.1 (- e0.1)) e0.0))
(define-fun goal2 () Bool (<= (ite (<= 0.0 e0.1) e0.1 (- e0.1)) e1.1))
(assert (not (and goal0 goal1 goal2)))
(check-sat)
(exit)
