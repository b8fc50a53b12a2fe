// Package forecast says how many numbers a pool should keep free, from how fast it
// used them up lately and how long it takes to buy more. It is arithmetic alone: no
// clock, no input or output.
//
//	VNs in use at each look ──▶ drain and its variance ─┐
//	orders placed since     ──▶ surge of new orders ────┼─▶ low water, target, when it runs out
//	intent ─▶ owned         ──▶ lead time, deviation ───┘
//
// What counts is the net demand, not the number of orders: a pool that serves a
// thousand orders an hour and gets as many numbers back needs no more of them.
package forecast
