; trm_verify obligation; the answer to it must be unsat
; certificate  sha256:a77dfdf7996cf93157b5c1b37e6e10ddca57fcaf00e295854743599c7a37f0bd
; weights      sha256:24d162005924ddfd00276a465956790385a41417cc29312f1e952f7831764560
; step         0, radius_contraction
; proof page   proofs/radius_contraction.md
; shown        the weights d are positive
; shown        0 ≤ ρ < 1
; shown        the radius of each group is at most ρd
; assumed      slopes of relu (3 times)
(set-info :smt-lib-version 2.6)
(set-logic QF_LRA)
(declare-const z0 Real)
(declare-const z1 Real)
(declare-const z2 Real)
(define-fun r2.0 () Real (+ (* (/ 1.0 2.0) 1024.0) (* 8.0 32.0)))
(define-fun r2.1 () Real (+ (* (/ 1.0 2.0) 32.0) 8.0))
; the weights d are positive
(define-fun goal0 () Bool (and (< 0.0 1024.0) (< 0.0 32.0) (< 0.0 1.0)))
; 0 ≤ ρ < 1
(define-fun goal1 () Bool (and (<= 0.0 (/ 3.0 4.0)) (< (/ 3.0 4.0) 1.0)))
; the radius of each group is at most ρd
(define-fun goal2 () Bool (<= r2.0 (* (/ 3.0 4.0) 1024.0)))
(define-fun goal3 () Bool (<= r2.1 (* (/ 3.0 4.0) 32.0)))
(define-fun goal4 () Bool (<= (/ 1.0 2.0) (/ 3.0 4.0)))
(assert (not (and goal0 goal1 goal2 goal3 goal4)))
(check-sat)
(exit)
