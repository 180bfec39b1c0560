; trm_verify obligation; the answer to it must be unsat
; certificate  sha256:71dadf5a96984bd732c779f3fca29f6d5247ac054d5af2b37e576c3b46b07d6c
; weights      sha256:411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd
; step         1, enclosure
; proof page   proofs/enclosure.md
; shown        the image lies strictly inside the box
; shown        the image lies in the concluded box
; shown        arguments of units lie in their intervals
; shown        the map contracts between any two points of the box
; assumed      Brouwer's theorem
; assumed      slopes of relu
(set-info :smt-lib-version 2.6)
(set-logic QF_LRA)
(declare-const z0 Real)
(assert (and (<= (/ 1.0 8.0) z0) (<= z0 (/ 3.0 16.0))))
(declare-const z.f2.0 Real)
(assert (= z.f2.0 (* 5.0 z0)))
(declare-const z.f3.0 Real)
(assert (= z.f3.0 (+ 1.0 (* (- 1.0) z.f2.0))))
(declare-const z.f4.0 Real)
(assert (= z.f4.0 (ite (<= 0.0 z.f3.0) z.f3.0 0.0)))
(declare-const residual Real)
(assert (= residual (+ z.f4.0 (- z0))))
(declare-const image Real)
(assert (= image (+ z0 (* (/ 43.0 256.0) residual))))
(declare-const dz0 Real)
(assert (and (<= (- (/ 1.0 32.0)) dz0) (<= dz0 (/ 1.0 32.0))))
(declare-const d2.0 Real)
(assert (= d2.0 (* 5.0 dz0)))
(declare-const d3.0 Real)
(assert (= d3.0 (* (- 1.0) d2.0)))
(declare-const d4.0 Real)
(assert (or (and (<= 0.0 d3.0) (<= d3.0 d4.0) (<= d4.0 d3.0)) (and (<= d3.0 0.0) (<= d3.0 d4.0) (<= d4.0 d3.0))))
(declare-const residual.2 Real)
(assert (= residual.2 (+ d4.0 (- dz0))))
(declare-const image.2 Real)
(assert (= image.2 (+ dz0 (* (/ 43.0 256.0) residual.2))))
; the image lies strictly inside the box
(define-fun goal0 () Bool (and (< (/ 1.0 8.0) image) (< image (/ 3.0 16.0))))
; the image lies in the concluded box
(define-fun goal1 () Bool (and (<= (/ 341.0 2048.0) image) (<= image (/ 171.0 1024.0))))
; arguments of units lie in their intervals
(define-fun goal2 () Bool (and (<= (/ 1.0 16.0) z.f3.0) (<= z.f3.0 (/ 3.0 8.0))))
; the map contracts between any two points of the box
(define-fun goal3 () Bool (and (< (- (/ 1.0 32.0)) image.2) (< image.2 (/ 1.0 32.0))))
(assert (not (and goal0 goal1 goal2 goal3)))
(check-sat)
(exit)
